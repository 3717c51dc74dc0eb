"""A small real site: the learning platform `campus` on two databases, LOCAL and REMOTE."""
