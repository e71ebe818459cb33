"""What scripts measure beside Ferryman: servers in processes of their own, floors, peers, and load."""
