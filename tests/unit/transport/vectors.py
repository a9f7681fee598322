"""Writes the Noise vectors that test_vectors.c runs as lines of words: vectors.py OUT JSON..."""
import json
import sys

KEYS = ("init_prologue", "resp_prologue", "init_static", "resp_static", "init_ephemeral",
        "resp_ephemeral", "init_remote_static", "resp_remote_static", "handshake_hash")


def one(vector, out):
    name = vector.get("protocol_name") or vector["name"]
    if not name.endswith("_25519_ChaChaPoly_BLAKE2b"):
        return
    out.write(f"vector {name.split('_')[1]}\n")
    for key in KEYS:
        if vector.get(key):
            out.write(f"{key} {vector[key]}\n")
    for psk in vector.get("init_psks") or []:
        out.write(f"psk {psk}\n")
    for message in vector["messages"]:
        out.write(f"message {message['payload'] or '-'} {message['ciphertext']}\n")
    out.write("end\n")


def main():
    with open(sys.argv[1], "w", encoding="ascii") as out:
        for path in sys.argv[2:]:
            with open(path, encoding="utf-8") as source:
                for vector in json.load(source)["vectors"]:
                    one(vector, out)


main()
