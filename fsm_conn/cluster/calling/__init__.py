"""Calls to a cluster: which member a call goes to, the way there and back, and many calls at once."""
