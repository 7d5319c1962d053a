"""Every contract noun: frozen, closed, with a JSON Schema and a sentence."""

from __future__ import annotations

import inspect

import jsonschema
import msgspec
import pytest

from isthmus.cli.reference import nouns
from isthmus.kit.signing import Envelope

OURS = [noun for noun in nouns() if noun is not Envelope]


@pytest.mark.parametrize("noun", OURS, ids=lambda noun: noun.__name__)
def test_noun_is_frozen_and_closed(noun: type[msgspec.Struct]) -> None:
    config = noun.__struct_config__
    assert config.frozen and config.forbid_unknown_fields, noun
    kinds = {parameter.kind for parameter in inspect.signature(noun).parameters.values()}
    assert kinds <= {inspect.Parameter.KEYWORD_ONLY}, f"{noun.__name__}: fields are given by name"


@pytest.mark.parametrize("noun", OURS, ids=lambda noun: noun.__name__)
def test_noun_has_a_schema_and_a_sentence(noun: type[msgspec.Struct]) -> None:
    schema = msgspec.json.schema(noun)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert (noun.__doc__ or "").strip(), f"{noun.__name__} needs a docstring"


def test_names_of_nouns_are_unique() -> None:
    names = [noun.__name__ for noun in nouns()]
    assert len(names) == len(set(names)) and len(names) > 10
