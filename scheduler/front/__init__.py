"""What clients and operators connect to: the object gateway and the admin API."""
