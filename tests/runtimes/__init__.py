"""accredit in the runtimes that programs use: prefork servers, gevent, uvloop, multiprocessing; and at their end."""
