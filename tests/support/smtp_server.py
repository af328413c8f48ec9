"""A mail server that takes alerts: aiosmtpd with TLS and logins, as its arguments say.

Prints its port, then each mail as one line of JSON. Arguments: starttls | tls | none, the file of its certificate, that of
its key, and a file that is there while the server is to refuse mail.
"""

import asyncio
import email
import email.policy
import json
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

way, certificate, key, refusing = sys.argv[1:5]


class Box:
    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        if address.startswith("gone@"):
            return "550 nobody of that name"
        envelope.rcpt_tos.append(address)
        return "250 known"

    async def handle_DATA(self, server, session, envelope):
        if os.path.exists(refusing):
            return "451 the box is full"
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        print(json.dumps({
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "subject": mail["subject"],
            "id": mail["message-id"],
            "text": mail.get_content(),
            "tls": session.ssl is not None or way == "tls",
            "login": bool(session.authenticated),
        }), flush=True)
        return "250 taken"


def login(server, session, envelope, mechanism, data):
    if not isinstance(data, LoginPassword):
        return AuthResult(success=False, handled=False)
    is_right = data.login == b"hub" and data.password == b"secret word"
    return AuthResult(success=is_right, auth_data=data.login.decode() if is_right else None)


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)


def conversation():
    return SMTP(
        Box(),
        hostname="localhost",
        tls_context=context if way == "starttls" else None,
        require_starttls=way == "starttls",
        authenticator=login,
        auth_required=way != "none",
        auth_require_tls=way == "starttls",
    )


async def serve():
    server = await asyncio.get_running_loop().create_server(
        conversation, "127.0.0.1", 0, ssl=context if way == "tls" else None
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(serve())
