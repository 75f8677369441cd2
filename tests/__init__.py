"""The tests of this repository; the conformance suite that backends share ships in the package."""
