"""File systems of the object stores: Amazon S3 and compatible ones, Google, Azure."""

import functools
import os
from collections.abc import Mapping
from datetime import timedelta
from urllib.parse import urlsplit

from pyarrow import fs

from raykd.errors import InputError

# Options of a URL by scheme.
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "s3": ("anonymous", "endpoint_override", "region", "scheme"),
    "gs": ("anonymous", "endpoint_override", "scheme"),
    "az": ("account_name", "endpoint_override"),
}
# What to do if access is refused.
REMEDIES: Mapping[str, str] = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE) on every node, or add "
    "?anonymous=true for a public bucket",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS on every node, or add ?anonymous=true for a public "
    "bucket",
    "az": "give every node an identity that may use the container, or set "
    "AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN there",
}

_CONNECT_TIMEOUT_S = 10
_REQUEST_TIMEOUT_S = 30
_MAX_ATTEMPTS = 4
_ENDPOINTS = {"s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")}


def file_system(
    scheme: str, bucket: str, options: Mapping[str, str], *, to_write: bool
) -> fs.FileSystem:
    """File system of a store, with the credentials and the endpoint of the environment.

    Args:
        scheme: s3, gs or az.
        bucket: bucket, or container of Azure.
        options: options of the URL.
        to_write: write a small object by a single request, whose errors are raised at its end.

    Raises:
        InputError: the account of an Azure container is not known.
    """
    endpoint, protocol = _endpoint(scheme, options)
    if scheme == "az":
        return _azure(_account(bucket, options), endpoint, protocol)
    anonymous = options.get("anonymous", "").lower() == "true"
    protocol = options.get("scheme", protocol)
    if scheme == "gs":
        return _google(anonymous=anonymous, endpoint_override=endpoint, scheme=protocol)
    region = options.get("region") or _first_set("AWS_REGION", "AWS_DEFAULT_REGION")
    if region is None:
        region = "us-east-1" if endpoint else _region_of(bucket)
    return _amazon(
        region=region,
        allow_delayed_open=to_write,
        anonymous=anonymous,
        endpoint_override=endpoint,
        scheme=protocol,
    )


def name_of(scheme: str, options: Mapping[str, str]) -> str:
    """Host and port of a store with an endpoint of its own, for messages."""
    return _endpoint(scheme, options)[0] or "the object store"


def _endpoint(scheme: str, options: Mapping[str, str]) -> tuple[str | None, str]:
    """Host and port of the endpoint, and its protocol; empty settings are ignored."""
    setting = options.get("endpoint_override") or _first_set(*_ENDPOINTS.get(scheme, ()))
    if not setting:
        return None, "https"
    parts = urlsplit(setting if "://" in setting else f"//{setting}")
    return parts.netloc.rpartition("@")[2], parts.scheme or "https"


def _account(container: str, options: Mapping[str, str]) -> str:
    account = options.get("account_name") or _first_set(
        "AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"
    )
    if account is None:
        raise InputError(
            f"az://{container}: the storage account is not known; write "
            f"abfss://{container}@ACCOUNT.dfs.core.windows.net/PATH, or set "
            "AZURE_STORAGE_ACCOUNT_NAME on every node"
        )
    return account


def _first_set(*variables: str) -> str | None:
    return next((os.environ[name] for name in variables if os.environ.get(name)), None)


@functools.cache
def _region_of(bucket: str) -> str:
    return str(fs.resolve_s3_region(bucket))


@functools.cache
def _amazon(**arguments: str | bool | None) -> fs.FileSystem:
    return fs.S3FileSystem(
        connect_timeout=_CONNECT_TIMEOUT_S,
        request_timeout=_REQUEST_TIMEOUT_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_MAX_ATTEMPTS),
        **arguments,
    )


@functools.cache
def _google(**arguments: str | bool | None) -> fs.FileSystem:
    limit = timedelta(seconds=_REQUEST_TIMEOUT_S)
    return fs.GcsFileSystem(retry_time_limit=limit, **arguments)


@functools.cache
def _azure(account: str, endpoint: str | None, protocol: str) -> fs.FileSystem:
    arguments: dict[str, str] = {}
    if endpoint:
        arguments = {
            name: value
            for kind in ("blob", "dfs")
            for name, value in (
                (f"{kind}_storage_authority", endpoint),
                (f"{kind}_storage_scheme", protocol),
            )
        }
    return fs.AzureFileSystem(
        account,
        account_key=_first_set("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY"),
        sas_token=_first_set("AZURE_STORAGE_SAS_TOKEN"),
        **arguments,
    )
