"""Throw-away certificates, made with the openssl command."""

import subprocess


def write_certificate(directory, name):
    """Write `cert.pem` and `key.pem` for 127.0.0.1, whose subject is `name`."""
    directory.mkdir(parents=True, exist_ok=True)
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    command += ["-addext", "basicConstraints=critical,CA:FALSE"]
    command += ["-keyout", directory / "key.draft", "-out", directory / "cert.draft"]
    subprocess.run(command, check=True, capture_output=True)
    (directory / "key.draft").rename(directory / "key.pem")
    (directory / "cert.draft").rename(directory / "cert.pem")
    return directory / "cert.pem", directory / "key.pem"
