"""What a person works with: the menu, its look, what a choice leads to, the rescue prompt, the gate.

The highest room below ``__main__``: it may know all the others.  Most boots need none of it, and it is imported only
when somebody is there.
"""
