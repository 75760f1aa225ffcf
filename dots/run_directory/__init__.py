"""Run directories: what tells one, making one, going on in one."""
