"""Events of other programs: how they are handed over (`script`), where they wait (`spool`, `entries`), and how they
become commits (`intake`).
"""
