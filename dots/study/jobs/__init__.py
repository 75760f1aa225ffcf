"""Having a study's runs done: in processes of this machine, or by a cluster's scheduler."""
