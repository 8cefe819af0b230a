#!/usr/bin/env python3
"""Makes `cookies.json`: sealed sessions, from the documented formats alone.

It shares nothing with the crate but those documents, so that the test beside it shows that the crate does what
they say. Where one of them changes, a session that somebody holds is lost: then the formats have a new number.

    pip install cryptography
    tests/vectors/generate.py            # writes cookies.json
    tests/vectors/generate.py --check    # fails if that would change it
"""

import base64
import hashlib
import hmac
import json
import pathlib
import struct
import sys

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

DAY = 24 * 60 * 60 * 1000
IDLE = 14 * DAY
ABSOLUTE = 30 * DAY
NOW = 1_800_000_000_123
SECRET = "q3ZbX0vT7LkRwPz1mYcJ8dNfHs5uGe2A"
OLDER_SECRET = "Jx4w9Qk2VtB7yLhR1sNcZ8mDfUe5GpTo-and-more"


# src/keyring.rs

def derive(secret, label, length):
    # `HKDF` extracts with the salt and expands with the info (RFC 5869).
    hkdf = HKDF(SHA256(), length, salt=b"tower-keep keyring v1", info=label)
    return hkdf.derive(secret.encode())


def key_id(secret):
    return derive(secret, b"key id", 4)


# src/seal/mod.rs

def sign(secret, label, context, body):
    header = b"\x01" + key_id(secret)
    signed = header + struct.pack(">Q", len(context)) + context + body
    mac = hmac.digest(derive(secret, label, 32), signed, "sha256")
    return header + mac + body


def encrypt(secret, label, context, body, nonce):
    header = b"\x02" + key_id(secret)
    key = derive(secret, label, 32)
    return header + nonce + xchacha20_poly1305(key, nonce, header + context, body)


def xchacha20_poly1305(key, nonce, associated, clear):
    cipher = ChaCha20Poly1305(hchacha20(key, nonce[:16]))
    return cipher.encrypt(bytes(4) + nonce[16:], clear, associated)


def hchacha20(key, nonce):
    """draft-irtf-cfrg-xchacha-03, section 2.2."""
    state = list(struct.unpack("<16I", b"expand 32-byte k" + key + nonce))

    def rotate(word, by):
        return (word << by | word >> (32 - by)) & 0xFFFFFFFF

    def quarter(a, b, c, d):
        for x, y, z, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            state[x] = (state[x] + state[y]) & 0xFFFFFFFF
            state[z] = rotate(state[z] ^ state[x], by)

    for _ in range(10):
        for i in range(4):
            quarter(i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return struct.pack("<8I", *state[:4], *state[12:])


def check_xchacha():
    """The draft's own vectors: section 2.2.1, and section A.3.1."""
    nonce = bytes.fromhex("000000090000004a0000000031415927")
    subkey = "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"
    assert hchacha20(bytes(range(32)), nonce).hex() == subkey
    clear = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip "
        b"for the future, sunscreen would be it."
    )
    associated = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    key, nonce = bytes(range(0x80, 0xA0)), bytes(range(0x40, 0x58))
    sealed = xchacha20_poly1305(key, nonce, associated, clear).hex()
    assert sealed == (
        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb"
        "731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452"
        "2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9"
        "21f9664c97637da9768812f615c68b13b52e"
        "c0875924c1c7987947deafd8780acf49"
    )


# src/data/table.rs

def table(data, expiry):
    entries = sorted((key.encode(), value_json(value)) for key, value in data.items())
    ends, key_end, value_end = b"", 0, 0
    for key, value in entries:
        key_end += len(key)
        value_end += len(value)
        ends += struct.pack("<II", key_end, value_end)
    keys = b"".join(key for key, _ in entries)
    values = b"".join(value for _, value in entries)
    return struct.pack("<BBQI", 1, *rule(expiry), len(entries)) + ends + keys + values


def rule(expiry):
    if expiry is None:
        return 0, 0
    if expiry == "browser_close":
        return 3, 0
    ((name, number),) = expiry.items()
    return {"idle": 1, "at": 2}[name], number


def value_json(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


# src/record.rs, `Record::to_bytes`

def record(revision, token, expires_at, absolute_deadline, created_at, user, payload):
    user = (user or "").encode()
    times = struct.pack(">qqq", expires_at, absolute_deadline, created_at)
    header = struct.pack(">BQ", 1, revision) + token + times + bytes([len(user)])
    return header + user + payload


# src/backend/client/mod.rs, token.rs and chunks.rs

def token(case, secret, issued_at, nonce, expires_at):
    """In its written form."""
    payload = table(case["data"], case["expiry"])
    body = bytes.fromhex(case["session_id"]) + struct.pack(">q", issued_at)
    absolute = case["created_at"] + ABSOLUTE
    # The first version of a session whose user's sessions were never ended together.
    body += record(1, bytes(16), expires_at, absolute, case["created_at"], case["user"], payload)
    name = full_name(case["options"]).encode()
    context = b"tower-keep cookie v1" + bytes([len(name)]) + name + case["namespace"].encode()
    if case["kind"] == "signed":
        sealed = sign(secret, b"cookie signature", context, body)
    else:
        sealed = encrypt(secret, b"cookie encryption", context, body, nonce)
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def piece_len(options):
    longest = "; HttpOnly; SameSite=Strict; Partitioned; Secure; Max-Age=34560000; Path="
    longest += options.get("cookie_path", "/")
    if "cookie_domain" in options:
        longest += "; Domain=" + options["cookie_domain"]
    mark = 6
    return 4096 - len(full_name(options) + "-1" + "=") - mark - len(longest)


def values(written, options):
    mark, length = written[8:14], piece_len(options)
    pieces = [written[at:at + length] for at in range(0, len(written), length)]
    assert len(pieces) <= 4
    return [f"{len(pieces)}{pieces[0]}"] + [mark + piece for piece in pieces[1:]]


# src/options.rs and src/cookie.rs

def full_name(options):
    name = options.get("cookie_name", "id")
    if options.get("insecure_http"):
        return name
    bound = "cookie_domain" not in options and options.get("cookie_path", "/") == "/"
    return ("__Host-" if bound else "__Secure-") + name


def set_cookies(case, written, max_age):
    options = case["options"]
    attributes = "; HttpOnly; SameSite=" + options.get("same_site", "lax").capitalize()
    if options.get("partitioned"):
        attributes += "; Partitioned"
    if not options.get("insecure_http"):
        attributes += "; Secure"
    attributes += "; Path=" + options.get("cookie_path", "/")
    if "cookie_domain" in options:
        attributes += "; Domain=" + options["cookie_domain"]
    if max_age is not None:
        attributes += f"; Max-Age={max_age // 1000}"
    names = [full_name(options) + (f"-{n}" if n else "") for n in range(4)]
    pairs = zip(names, values(written, options))
    return [f"{name}={value}{attributes}" for name, value in pairs]


# The cases

def fixed_bytes(label, length):
    """What stands for random bytes."""
    return hashlib.shake_256(label.encode()).digest(length)


def cookie(title, kind, data, *, user=None, namespace="", options=None, expiry=None):
    case = {
        "title": f"{kind}: {title}",
        "kind": kind,
        "secret": SECRET,
        "namespace": namespace,
        "options": options or {},
        "created_at": NOW,
        "session_id": fixed_bytes(f"id of {kind} {title}", 32).hex(),
        "nonce": fixed_bytes(f"nonce of {kind} {title}", 24).hex() if kind == "encrypted" else "",
        "user": user,
        "expiry": expiry,
        "data": data,
        "record_id": "",
    }
    return with_answer(case)


def with_answer(case):
    tag, number = rule(case["expiry"])
    expires_at = {0: NOW + IDLE, 1: NOW + number, 2: number, 3: NOW + IDLE}[tag]
    max_age = None if case["expiry"] == "browser_close" else expires_at - NOW
    nonce = bytes.fromhex(case["nonce"])
    written = token(case, case["secret"], NOW, nonce, expires_at)
    case["record_id"] = record_id(case["session_id"])
    case["expires_at"] = expires_at
    case["set_cookie"] = set_cookies(case, written, max_age)
    return case


# src/id.rs

def record_id(session_id):
    return hashlib.sha256(b"tower-keep record id v1" + bytes.fromhex(session_id)).hexdigest()


def filled(kind, token_len):
    """Data of the length that a token of at most so many characters has room for."""
    seal = 5 + (32 if kind == "signed" else 24 + 16)
    besides = seal + 40 + 50 + 14 + 8 + len("notes") + len('""')
    return {"notes": "~" * (token_len * 3 // 4 - besides)}


def cookies():
    mixed = {
        "cart": [{"count": 2, "item": "tea"}, {"count": 1, "item": "Käse ☕"}],
        "a key \" with\tsigns": "\u0000\u001f\u007f/\\",
        "visits": 18446744073709551615,
        "ratio": -1.5,
        "none": None,
        "ключ": True,
    }
    elsewhere = {
        "cookie_name": "shop",
        "cookie_domain": "example.org",
        "cookie_path": "/a",
        "same_site": "none",
        "partitioned": True,
    }
    for kind in ("signed", "encrypted"):
        yield cookie("a visitor", kind, {"visits": 1})
        yield cookie("a user without data", kind, {}, user="ada@example.org")
        yield cookie("data of many kinds", kind, mixed, user="Ünï-1", namespace="shop")
        yield cookie("other attributes", kind, {"visits": 1}, options=elsewhere, namespace="ü")
        yield cookie("plain HTTP", kind, {"visits": 1}, options={"insecure_http": True})
        yield cookie("the browser's close", kind, {"a": 1}, expiry="browser_close")
        yield cookie("an idle time of its own", kind, {"a": 1}, expiry={"idle": 3_600_000})
        yield cookie("an end of its own", kind, {"a": 1}, expiry={"at": NOW + 90_000})
    room = piece_len({})
    yield cookie("one full cookie", "signed", filled("signed", room))
    yield cookie("a second cookie", "signed", filled("signed", room + 2), user="ada")
    yield cookie("two full cookies", "encrypted", filled("encrypted", 2 * room))
    yield cookie("four cookies", "encrypted", filled("encrypted", 3 * room + 99), user="ada")


def resealed():
    """Sealed with a retired secret: what comes in, and what the answer puts in its place."""
    for kind in ("signed", "encrypted"):
        case = cookie("a retired secret", kind, {"visits": 1}, user="ada")
        later = NOW + 60_000
        nonce = bytes.fromhex(case["nonce"])
        old = token(case, OLDER_SECRET, NOW, nonce[::-1], case["expires_at"])
        case["retired"] = OLDER_SECRET
        case["now"] = later
        case["cookie"] = [pair.split(";")[0] for pair in set_cookies(case, old, None)]
        new = token(case, SECRET, later, nonce, case["expires_at"])
        case["set_cookie"] = set_cookies(case, new, case["expires_at"] - later)
        yield case


# src/stores/encrypted.rs

def records():
    for title, user, data, revision in (
        ("nobody's", None, {}, 1),
        ("a user's", "ada@example.org", {"cart": ["tea"], "theme": "dark"}, 1 << 40),
    ):
        case = {
            "title": title,
            "secret": SECRET,
            "record_id": fixed_bytes(f"id of {title}", 32).hex(),
            "revision": revision,
            "token": fixed_bytes(f"token of {title}", 16).hex(),
            "created_at": NOW - DAY,
            "expires_at": NOW + DAY,
            "absolute_deadline": NOW + 29 * DAY,
            "user": user,
            "data": data,
            "payload": table(data, None).hex(),
            "nonce": fixed_bytes(f"nonce of {title}", 24).hex(),
        }
        context = b"tower-keep record v1" + bytes.fromhex(case["record_id"])
        context += struct.pack(">Q", revision) + bytes.fromhex(case["token"])
        context += struct.pack(">qq", case["created_at"], case["absolute_deadline"])
        context += (user or "").encode()
        payload, nonce = bytes.fromhex(case["payload"]), bytes.fromhex(case["nonce"])
        case["sealed"] = encrypt(SECRET, b"record encryption", context, payload, nonce).hex()
        yield case


def main():
    check_xchacha()
    vectors = {
        "cookies": list(cookies()),
        "resealed": list(resealed()),
        "records": list(records()),
    }
    written = json.dumps(vectors, indent=1, ensure_ascii=False) + "\n"
    path = pathlib.Path(__file__).with_name("cookies.json")
    if sys.argv[1:] == ["--check"]:
        if path.read_text(encoding="utf-8") != written:
            sys.exit(f"{path} is not what this script writes")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        path.write_text(written, encoding="utf-8")


if __name__ == "__main__":
    main()
