"""`trio-send bench`: what a send costs on this machine."""
