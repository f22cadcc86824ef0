"""How transfer slots are shared: between accounts, and between the lanes of one."""
