"""How it runs: actor, mailbox, feed, journal, node, plant file, attach, command line."""
