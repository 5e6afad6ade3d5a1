"""The agent: takes releases, tries them, keeps the last good one."""
