"""Print what breaks a rule of the tree, then the functions that are growing long."""

from __future__ import annotations

import sys

from tests.tidy import banned, behaviours, circles, documented, layering, repository, sizes
from tests.tidy.source import REPOSITORY, SRC


def main() -> int:
    found = [
        *layering.breaches(SRC),
        *circles.circles(SRC),
        *sizes.too_long(SRC),
        *sizes.too_many_verbs(SRC),
        *banned.hidden_inputs(SRC),
        *banned.sleeping_cases(SRC),
        *banned.code_from_data(SRC),
        *banned.bare_excepts(SRC),
        *banned.empty_names(SRC),
        *behaviours.unproved(SRC),
        *documented.errors_without_a_section(SRC, REPOSITORY / "docs" / "errors.md"),
        *repository.machine_paths(REPOSITORY),
        *repository.forbidden_files(REPOSITORY),
        *repository.loose_pins(REPOSITORY),
    ]
    for violation in found:
        print(violation)
    long = sizes.functions_over(SRC, sizes.FUNCTION_SOFT)
    print(f"{len(found)} violations; {len(long)} functions over {sizes.FUNCTION_SOFT} lines")
    for function in long:
        print(f"  {function}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
