// a shim
