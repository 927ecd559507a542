"""Who is there: sources of members, the life of one member, and which of them a client has to do with."""
