"""What `fettle doctor` shows holds no secret, no name and no home, and stays readable."""

from __future__ import annotations

import json

import pytest

from app.redaction import Redaction

redact = Redaction(homes=["/home/maria", "C:\\Users\\Maria"], names=["maria", "marias-laptop", "ab", "root"])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://maria:geheim@index.example/simple", "https://***@index.example/simple"),
        ("http://:only-a-secret@10.0.0.1:3128", "http://***@10.0.0.1:3128"),
        ("https://tok3n@index.example", "https://***@index.example"),
        ("HTTPS_PROXY=http://u:p@proxy:8080", "HTTPS_PROXY=http://***@proxy:8080"),
        ("hf_abcdefghijklmnop1234 was used", "hf_*** was used"),
        ("ghp_ABCDEFGHIJ1234567890abcd", "ghp_***"),
        ("Authorization: Bearer abc.def-ghi_jkl123", "Authorization: Bearer ***"),
        ("authorization: Basic bWFyaWE6Z2VoZWlt", "authorization: Basic ***"),
        ("HF_TOKEN=abc", "HF_TOKEN=***"),
        ('"api_key": "abc", "rank": 8', '"api_key": "***", "rank": 8'),
        ("password: geheim", "password: ***"),
        ("https://s3.example/x?X-Amz-Signature=0a1b2c&part=1", "https://s3.example/x?X-Amz-Signature=***&part=1"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.abc", "***"),
        ("/home/maria/.local/share/fettle/envs", "~/.local/share/fettle/envs"),
        ("C:\\Users\\Maria\\AppData", "~\\AppData"),
        ("/home/someone else/x", "/home/<user>/x"),
        ("C:\\Users\\Anna von Berg\\AppData", "C:\\Users\\<user>\\AppData"),
        ("in /home/someone else", "in /home/<user> else"),
        ("https://u:p@ss@index.example/simple", "https://***@index.example/simple"),
        ("https://u:pa/ss@index.example/simple", "https://***@index.example/simple"),
        ("proxy = corp\\u:secret@proxy:8080", "proxy = ***@proxy:8080"),
        ("u:secret@proxy:8080", "***@proxy:8080"),
        ("Proxy-Authorization: Basic dTpw", "Proxy-Authorization: Basic ***"),
        ("'Authorization': 'token abc'", "'Authorization': 'token ***'"),
        ("Set-Cookie: sid=1; path=/\nDate: x", "Set-Cookie: ***\nDate: x"),
        ("--token abc --password geheim", "--token *** --password ***"),
        ("machine h login u password geheim", "machine h login *** password ***"),
        ("UV_INDEX_CORP_USERNAME=u", "UV_INDEX_CORP_USERNAME=***"),
        ("AIzaSyA1234567890abcdefghijklm", "AIza***"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
            "-----BEGIN RSA PRIVATE KEY----- *** -----END RSA PRIVATE KEY-----",
        ),
        ("/Users/anna/Library", "/Users/<user>/Library"),
        ("host marias-laptop, user Maria.", "host <name>, user <name>."),
    ],
)
def test_what_nobody_should_read_is_taken_out(text, shown):
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "tokenizers==0.23.3",
        "1,024 tokens/s",
        "sk-learn is not skipped",
        "basic settings",
        "/home is a folder",
        "lab and crab hold ab",
        "pip @ file:///wheels",
        "sha256:" + "0" * 64,
        "/homework/root/marian",
        "https://index.example:8080/@scope/name",
        "https://index.example/simple/numpy/",
        "10:30@noon: a remark",
        "numpy @ https://index.example/numpy.whl",
        "the password of the index is not known",
        "a token for the index",
    ],
)
def test_what_everybody_may_read_stays(text):
    assert redact(text) == text


def test_json_stays_json():
    """A secret's value goes by its name, numbers stay numbers."""
    hidden = redact.value({"password": ["a"], "max_token": 5, "hf_abcdefghijklmnop1234": 1, "/home/maria/x": "y"})
    assert hidden == {"password": "***", "max_token": 5, "hf_***": 1, "~/x": "y"}
    value = {"token": "abc", "tokens": 12, "nested": [{"url": "https://a:b@c/d"}], "none": None}
    shown = redact.value(value)
    assert shown == {"token": "***", "tokens": 12, "nested": [{"url": "https://***@c/d"}], "none": None}
    assert json.loads(json.dumps(shown)) == shown
