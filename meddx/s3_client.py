"""The environment in, clients of an S3 store out; requests repeated while it is busy, and refused in words when it is not.

botocore's own retries are off: none of its modes repeats all that is worth it (`standard` leaves 429 alone, none reads on after
a torn body).  So there is one rule, `patiently`, and one place that says what an answer means, `understood`.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import urlparse

import pyarrow.fs as pafs

from meddx.errors import StorageError

T = TypeVar("T")
PATIENCE = "MEDDX_STORAGE_PATIENCE"  # seconds for which a busy store is asked again; a sixth of it for each answer
PATIENCE_S, CONNECT_S = 60.0, 3.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0
BUSY = {
    "SlowDown",
    "RequestTimeout",
    "Throttling",
    "ThrottlingException",
    "IncompleteBody",
    "OperationAborted",
    "ConditionalRequestConflict",
}
SPOILED = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"}  # spoiled on the way there
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}
FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage"}
WRONG_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthorizationHeaderMalformed", "InvalidClientTokenId"}
RENEW = "renew the credentials, then run the same command again: what is published stays"


@dataclass(frozen=True)
class Place:
    """One object or prefix."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


def patience() -> float:
    return float(os.environ.get(PATIENCE) or PATIENCE_S)


def answer_s() -> float:
    """Seconds without a byte after which a request is given up: 10 by default."""
    return max(patience() / 6, 0.5)


def patiently(place: Place, ask: Callable[[], T]) -> T:
    """What `ask` returns, asked again with growing pauses and jitter while the store is busy, or what came back is damaged.

    StorageError: of these kinds once `patience()` seconds have passed since the first failure; of any other kind at once.
    """
    first, pause = 0.0, FIRST_PAUSE_S
    while True:
        try:
            return ask()
        except _failures() as error:
            first = first or time.monotonic()
            spent = time.monotonic() - first
            trouble = understood(error, place, spent)
            if trouble.kind not in ("busy", "damaged") or spent + pause > patience():
                raise trouble from error
        time.sleep(pause * random.uniform(0.5, 1.5))
        pause = min(2 * pause, LONGEST_PAUSE_S)


def filesystem() -> pafs.S3FileSystem:
    """For writers that stream.  Rebuilt when the environment changes; credentials come from the usual chain only."""
    return _filesystem_for(_settings())


def client() -> Any:
    return _client_for(_settings())


def _settings() -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_") or name == PATIENCE))


def _endpoint() -> tuple[str | None, str | None]:
    """(URL, region) as the environment has them; a store of one's own seldom has a region, but the signature needs one."""
    url = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return url, os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ("us-east-1" if url else None)


@lru_cache(maxsize=8)
def _filesystem_for(settings: tuple[tuple[str, str], ...]) -> pafs.S3FileSystem:
    url, region = _endpoint()
    where = urlparse(url) if url else None
    return pafs.S3FileSystem(
        endpoint_override=where.netloc if where else None,
        scheme=where.scheme if where else "https",
        region=region,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=8),
        request_timeout=answer_s(),
        connect_timeout=CONNECT_S,
    )


@lru_cache(maxsize=8)
def _client_for(settings: tuple[tuple[str, str], ...]) -> Any:
    from botocore.config import Config
    from botocore.session import Session

    session, (url, region) = Session(), _endpoint()
    # a store of one's own seldom has a name in DNS for every bucket
    style = (session.get_scoped_config().get("s3") or {}).get("addressing_style") or ("path" if url else "auto")
    config = Config(
        connect_timeout=min(CONNECT_S, answer_s()),
        read_timeout=answer_s(),
        retries={"total_max_attempts": 1},
        max_pool_connections=32,
        s3={"addressing_style": style},
    )
    try:
        return session.create_client("s3", endpoint_url=url, region_name=region, config=config)
    except ValueError as error:
        if isinstance(error, _failures()):
            raise
        raise StorageError("the address of the store is not a URL", "AWS_ENDPOINT_URL", "write it as https://host:port") from error


def missing(place: Place) -> StorageError:
    return StorageError("there is no such file", str(place), "check the path", "missing")


def understood(error: Exception, place: Place, seconds: float = 0) -> StorageError:
    """What a failed request means, without the store's own prose, which may hold names of patients' files."""
    from botocore import exceptions as known

    answer = status(error)
    code = str(_response(error).get("Error", {}).get("Code", "")) or type(error).__name__
    where, named = str(place), f"{answer} {code}" if answer and code != str(answer) else code
    if isinstance(error, known.SSLError):
        return StorageError("the store's certificate is not trusted", where, "set AWS_CA_BUNDLE to a file with your own certificates")
    if code in EXPIRED:
        return StorageError(f"the credentials have expired ({code})", where, RENEW, "permission")
    if code in WRONG_KEYS or isinstance(error, _no_credentials()):
        return StorageError(
            f"the store does not accept the credentials ({code})", where, "check the AWS_ variables or profile", "permission"
        )
    if code in FULL or answer == 507:
        return StorageError(f"the store is full ({code})", where, "make room or raise the quota, then run the same command again", "full")
    if answer in (401, 403):
        next_step = "check that the credentials may read, list, write and delete here"
        return StorageError(f"no permission ({code})", where, next_step, "permission")
    if code == "NoSuchBucket":
        return StorageError("there is no such bucket", where, "check the name, or make the bucket", "missing")
    if answer == 404:
        return missing(place)
    if answer == 412:
        return StorageError("the file changed while it was read", where, "run the same command again")
    if isinstance(error, known.FlexibleChecksumError):
        return StorageError("what came back does not have the checksum that the store keeps", where, "copy the file there again", "damaged")
    if answer == 429 or (answer >= 500 and answer != 501) or code in BUSY | SPOILED or isinstance(error, _broken_off()):
        what = f"the store was busy or did not answer for {seconds:.0f} s ({named})"
        next_step = "check AWS_ENDPOINT_URL and the network, or run the same command again later: what is published stays"
        return StorageError(what, where, next_step, "busy")
    return StorageError(f"the store refused the request ({named})", where, "check the AWS_ variables, the bucket's rules and its name")


def status(error: Exception) -> int:
    return int(_response(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _response(error: Exception) -> dict[str, Any]:
    found = getattr(error, "response", None)
    return found if isinstance(found, dict) else {}


def _failures() -> tuple[type[Exception], ...]:
    """What botocore raises; looked up only once something was raised, for it is slow to import."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    return (BotoCoreError, ClientError, ResponseParserError)


def _no_credentials() -> tuple[type[Exception], ...]:
    from botocore import exceptions as known

    return (
        known.NoCredentialsError, known.PartialCredentialsError, known.CredentialRetrievalError, known.ProfileNotFound,
        known.TokenRetrievalError, known.SSOError,
    )  # fmt: skip


def _broken_off() -> tuple[type[Exception], ...]:
    from botocore import exceptions as known
    from botocore.parsers import ResponseParserError

    return (known.HTTPClientError, known.ConnectionError, known.IncompleteReadError, ResponseParserError)
