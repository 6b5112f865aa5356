"""How known failures show in what installers say: one row a failure, the specific above the general."""

from __future__ import annotations

from env_manager.diagnosing.signature import Signature
from env_manager.diagnosing.signatures_system import IN_SYSTEM

_ASKING = (
    Signature(
        "hash-mismatch", r"hash(es)? (mismatch|differs?|do(es)? not match)|do not match the hashes|checksum (mismatch|failed)"
        r"|expected (sha256|hash)[^\n]*(\n[^\n]*)?(got|computed|actual)",
        "A downloaded package is not the file that the lock names.",
        "Try again; if it stays so, the index or a proxy alters files: use another index.", "install",
    ),
    Signature(
        "two-installs",
        r"another installation is running|(waiting|wait|acquir\w*)[^\n]{0,40} (for )?(the )?lock[^\n]{0,200}(tim|held|fail)"
        r"|timeout[^\n]{0,40}lock|lock (is )?held by|could not acquire lock|Failed to (acquire|obtain)[^\n]*lock",
        "Another installation runs in this folder.", "Wait until it has ended, or stop it.",
    ),
    Signature(
        "certificate-unknown",
        r"unknownissuer|invalid peer certificate|certificate[ _]verify[ _]failed|self[- ]signed certificate|SSLCertVerification"
        r"|(unable to get local issuer|certificate (has expired|is not trusted|not valid|signed by unknown|expired))"
        r"|CaUsedAsEndEntity|BadCertificate|UnknownCA|notvalidforname|(hostname|IP address)[^\n]*(mismatch|doesn't match)"
        r"|CERT_E_|CRYPT_E_|NO_REVOCATION_CHECK|SEC_E_UNTRUSTED_ROOT|unable to find valid certification",
        "The index shows a certificate that this machine does not trust, often a company proxy's.",
        "Name the proxy's certificate file in pip's configuration (`cert`) or in SSL_CERT_FILE; check the machine's date too.",
    ),
    Signature(
        "proxy-refused",
        r"\b407\b|proxy authentication|tunnel\w*[^\n]{0,20}(error|failed|unsuccessful|connection)|proxyconnect|proxy ?error"
        r"|(connect|cannot)[^\n]{0,40} to (the )?proxy|proxy[^\n]{0,60}(refused|denied|unreachable|failed|invalid|unsupported)"
        r"|unsupported proxy|invalid proxy|unknown proxy|socks[^\n]{0,40}(error|fail|refused|unsupported)",
        "The proxy refused the connection, or cannot be reached.",
        "Check the proxy's address, user name and password in HTTPS_PROXY.",
    ),
    Signature(
        "index-refused",
        r"(status|http|error|code|client)[^\n]{0,60}\b(401|403|451)\b|\b(401|403) ?:? ?(unauthori[sz]ed|forbidden|client error)"
        r"|unauthori[sz]ed|forbidden|credentials[^\n]{0,40}(missing|invalid|required|wrong|not found)|authentication (failed|required)"
        r"|invalid (user ?name|password|token|credentials)",
        "The index wants a user name and password, or refuses them.",
        "Correct them in pip's or uv's configuration.",
    ),
    Signature(
        "index-slow",
        r"timed? ?out|timeout\b(?!\.py)|deadline (has )?(elapsed|exceeded)|too slow|\b(408|429|504)\b[^\n]{0,40}(request|gateway|too many)"
        r"|\b(too many requests|gateway time)|os error (110|10060)\b|ETIMEDOUT|\bstalled\b",
        "The index answers too slowly.",
        "Try again later, or raise the time limit in pip's configuration (`timeout`).", "install",
    ),
)  # fmt: skip

_FETCHING = (
    Signature(
        "wheel-truncated",
        r"end of file before message length|(unexpected|premature|early) (end of|eof)|unexpected eof|end of central directory"
        r"|content.length|incomplete(read| body| message| download)|(body|download|file)[^\n]{0,30} (truncated|incomplete|cut)"
        r"|error decoding response body|(expected|got|only|read|received)[^\n]{0,30} \d+ [^\n]{0,30}bytes[^\n]{0,40}(\d|more)"
        r"|connection (was )?closed before|UnexpectedEof|unexpected BufError|truncated|ended (too )?early|cut (off|short)",
        "A package arrived cut short.", "Try again; if it stays so, a proxy on the way cuts large files.", "install",
    ),
    Signature(
        "index-not-an-index",
        r"unsupported content.type|invalid html|not a (valid )?(zip|wheel)|invalid (local file header|zip|wheel)|BadZipFile"
        r"|failed to (read|extract|unzip|open|parse)[^\n]*(zip|archive|wheel|html|simple|json|metadata|index)|bad magic|file signature"
        r"|content.type[^\n]{0,60}(text/html|expected|unsupported|not)|received HTML|<(!doctype|html)|(expected|unexpected) (value|character)"
        r"|too many redirects|redirect[^\n]{0,30}(loop|limit|error|end)|error following redirect|corrupt message|InvalidContentType"
        r"|invalid (metadata|filename|response)|missing (field|the) |crc ?-?(32)? (check|mismatch|fail|error)|(bad|wrong) CRC",
        "The index answered with something that is no package, often a login page.",
        "Open the index in a browser and sign in, or configure another one; then install again.", "install",
    ),
)  # fmt: skip

_OFFERING = (
    Signature(
        "wheel-wrong-platform",
        r"no (\w+ )*wheels?\b[^\n]*|wheels? (are|is) (only )?available|is not (compatible|supported)[^\n]{0,40}(this|the current|platform)"
        r"|requires-python|requires (a different )?python|building from source is disabled|no-build|not a supported wheel"
        r"|(python|abi|platform) tag|only for (linux|windows|mac)|depends on Python ?[<>=!]",
        "The index offers no wheel of a package for this Python and system.",
        "Check that the index is complete, or ask for another version.",
    ),
    Signature(
        "package-not-offered",
        r"no versions? of|not found in the (package registry|provided)|does not offer|no matching distribution"
        r"|could not find a version|there is no version|was not found in|\b(404|410):? (not found|gone|client error)"
        r"|(status|http|error)[^\n]{0,60}\b(404|410)\b",
        "The index does not offer a planned package or version: behind a login page it looks empty.",
        "Check the index, and the version if you asked for one.",
    ),
    Signature(
        "index-down",
        r"error sending request|dns error|lookup address|connection (refused|reset|aborted|closed|error)|connect error|could not connect"
        r"|tcp connect|(status|http|error|server)[^\n]{0,60}\b5\d\d\b|\b50[0234] ?(internal|bad|service|gateway)|name resolution"
        r"|(name or service|host)[^\n]{0,20} not known|getaddrinfo|no such host|(network|host) is (unreachable|down)|no route to host"
        r"|network (connectivity|was) (is )?disabled|failed to (fetch|download)|out of reach|cannot be reached|broken pipe"
        r"|(handshake|tls|ssl)[^\n]{0,40}(fail|error|eof|alert)|os error (101|104|111|113|1005[0-4]|1006[0-5]|1100[1-4])\b|ECONN\w+"
        r"|service unavailable|bad gateway|internal server error|RemoteDisconnected|Max retries exceeded",
        "The index does not answer.", "Check the network, the proxy and the index in pip's configuration.", "install",
    ),
    Signature(
        "versions-conflict", r"no solution found|unsatisfiable|ResolutionImpossible|conflicting (dependencies|requirements)|incompatible",
        "The planned versions cannot be installed together.", "Undo the version overrides if you gave any.",
    ),
)  # fmt: skip

IN_INSTALLS = (*_ASKING, *IN_SYSTEM, *_FETCHING, *_OFFERING)
