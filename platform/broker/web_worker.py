"""What the web server's worker loads: Django's WSGI application, in a process that dies with its server.

The server starts its worker itself and would leave it behind, holding the port, when the server is killed.
"""

from broker.children import die_with_parent

die_with_parent()

from broker.wsgi import application  # noqa: E402 - the line above must come first

__all__ = ["application"]
