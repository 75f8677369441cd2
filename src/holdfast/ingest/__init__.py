"""Taking files in as documents: `ingest_folder`, and `extract` for one file's text."""

from holdfast.ingest.extract import KINDS, Extracted, extract
from holdfast.ingest.folder import Choice, FileResult, FolderIngest, ingest_folder

__all__ = [
    "KINDS",
    "Choice",
    "Extracted",
    "FileResult",
    "FolderIngest",
    "extract",
    "ingest_folder",
]
