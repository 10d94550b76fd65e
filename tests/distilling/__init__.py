"""A package, for some of its files are called as files of other folders of tests."""
