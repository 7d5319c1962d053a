"""SQL to a tree: what can be asked is read as it was meant, and everything else is refused with a sentence."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.cli.asksql import question_of, table_named
from isthmus.contracts.errors import InputError
from isthmus.contracts.question import Among, Bins, Compare, Either, Every, Levels, Missing, Negated
from tests.sandbox.question_world import TABLE

HOSTILE = (
    "SELECT * FROM clinic",
    "SELECT age FROM clinic",
    "SELECT min(age) FROM clinic",
    "SELECT max(age) FROM clinic",
    "SELECT count(DISTINCT age) FROM clinic",
    "SELECT avg(DISTINCT age) FROM clinic",
    "SELECT count(*) FROM read_csv('/etc/passwd')",
    "SELECT count(*) FROM '/etc/passwd'",
    "SELECT count(*) FROM 'records.csv'",
    "SELECT count(*) FROM read_parquet('s3://bucket/x')",
    "SELECT count(*) FROM glob('*')",
    "COPY (SELECT count(*) FROM clinic) TO 'out.csv'",
    "COPY clinic FROM 'in.csv'",
    "ATTACH 'other.db' AS other",
    "PRAGMA database_list",
    "SET enable_external_access = true",
    "INSTALL httpfs",
    "LOAD httpfs",
    "EXPORT DATABASE 'out'",
    "CREATE TABLE x AS SELECT count(*) FROM clinic",
    "INSERT INTO clinic SELECT * FROM clinic",
    "DROP TABLE clinic",
    "CALL pragma_version()",
    "SELECT count(*) FROM clinic; DROP TABLE clinic",
    "SELECT count(*) FROM clinic; SELECT count(*) FROM clinic",
    "SELECT getenv('HOME') FROM clinic",
    "SELECT count(*) FROM clinic WHERE getenv('HOME') = 'x'",
    "SELECT count(*) FROM clinic WHERE regexp_matches(sex, '(a+)+$')",
    "SELECT count(*) FROM clinic WHERE sex LIKE '%ale'",
    "SELECT count(*) FROM clinic WHERE sex ~ '(a+)+$'",
    "SELECT count(*) FROM clinic WHERE age / 0 > 1",
    "SELECT count(*) FROM clinic WHERE age + 1 > 40",
    "SELECT avg(age / 0) FROM clinic",
    "SELECT sum(age * 1e308) FROM clinic",
    "SELECT sum(9223372036854775807 + age) FROM clinic",
    "SELECT count(*) FROM clinic WHERE age > 1e400",
    "SELECT count(*) FROM clinic WHERE age = 'forty'",
    "SELECT count(*) FROM clinic WHERE sex = 1",
    "SELECT count(*) FROM clinic WHERE sex > 'Female'",
    "SELECT count(*) FROM clinic WHERE sex = 'Mаle'",  # a Cyrillic letter
    "SELECT count(*) FROM clinic WHERE агe > 40",
    "SELECT count(*) FROM clinic WHERE rowid = 7",
    "SELECT count(*) FROM clinic WHERE path = 'records.csv#7'",
    "SELECT count(*) FROM clinic WHERE age > chol",
    "SELECT count(*) FROM clinic WHERE age = (SELECT max(age) FROM clinic)",
    "SELECT count(*) FROM clinic WHERE age IN (SELECT age FROM clinic)",
    "SELECT count(*) FROM clinic WHERE EXISTS (SELECT 1 FROM clinic)",
    "SELECT count(*) FROM (SELECT * FROM clinic) AS x",
    "SELECT count(*) FROM clinic a JOIN clinic b ON a.age = b.age",
    "SELECT count(*) FROM clinic, clinic AS other",
    "SELECT count(*) FROM clinic UNION SELECT count(*) FROM clinic",
    "WITH x AS (SELECT * FROM clinic) SELECT count(*) FROM x",
    "SELECT count(*) OVER () FROM clinic",
    "SELECT row_number() OVER (ORDER BY age) FROM clinic",
    "SELECT count(*) FILTER (WHERE age > 40) FROM clinic",
    "SELECT count(*) FROM clinic LIMIT 1",
    "SELECT count(*) FROM clinic GROUP BY sex ORDER BY age LIMIT 1 OFFSET 3",
    "SELECT count(*) FROM clinic GROUP BY sex HAVING count(*) < 5",
    "SELECT count(*) FROM clinic QUALIFY age > 3",
    "SELECT count(*) FROM clinic TABLESAMPLE 1%",
    "SELECT DISTINCT sex FROM clinic",
    "SELECT count(*) FROM clinic GROUP BY age",
    "SELECT count(*) FROM clinic GROUP BY ROLLUP (sex)",
    "SELECT count(*) FROM clinic GROUP BY CUBE (sex, pain)",
    "SELECT count(*) FROM clinic GROUP BY ALL",
    "SELECT count(*) FROM clinic GROUP BY bins(age, 1000)",
    "SELECT count(*) FROM clinic GROUP BY bins(sex, 2)",
    "SELECT count(*) FROM clinic GROUP BY sex, sex",
    "SELECT string_agg(sex) FROM clinic",
    "SELECT list(age) FROM clinic",
    "SELECT arg_max(age, chol) FROM clinic",
    "SELECT first(age) FROM clinic",
    "SELECT quantile(age, 0.5, 20) FROM clinic",
    "SELECT quantile(age, [0.1, 0.9]) FROM clinic",
    "SELECT quantile_cont(age, 2) FROM clinic",
    "SELECT CASE WHEN age > 40 THEN 1 END FROM clinic",
    "SELECT count(CAST(age AS TEXT)) FROM clinic",
    "SELECT count(*) FROM clinic WHERE age::TEXT = '4'",
    "SELECT count(*) FROM main.information_schema.tables",
    "SELECT count(*) FROM clinic /* */ AS OF TIMESTAMP '2020-01-01'",
    "SELECT count(*) FROM clinic WHERE " + "(" * 3000 + "age > 1" + ")" * 3000,
    "SELECT count(*) FROM clinic WHERE " + " AND ".join(f"age <> {n}" for n in range(500)),
    "SELECT count(*) FROM clinic WHERE age IN (" + ", ".join(map(str, range(500))) + ")",
    "SELECT count(*) FROM clinic WHERE NOT " * 1 + "NOT " * 200 + "age > 4",
    "SELECT " + ", ".join(["count(*)"] * 500) + " FROM clinic",
    "SELECT count(*) FROM clinic WHERE age > 4 " + " " * 20_000,
    "",
    ";",
    "SELECT",
    "\x00",
    "SELECT count(*)",
    "SELECT count(*) FROM clinic WHERE age > ?",
    "SELECT count(*) FROM clinic WHERE age > $1",
    "SELECT count(*) FROM clinic WHERE age IS NOT DISTINCT FROM NULL",
    "SELECT count(*) FROM clinic WHERE other.age > 4",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_owners_do_not_answer_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(InputError) as caught:
        question_of(text, TABLE)
    assert caught.value.message.strip() and caught.value.next_step.strip() and "\n" not in caught.value.message


def test_conditions_are_read_as_they_were_meant() -> None:
    text = (
        "SELECT count(*) FROM clinic c -- of some\nWHERE (c.age BETWEEN 40 AND 60 OR 1.5 < shift) AND NOT sex = 'male'"
        " AND chol IS NOT NULL AND pain NOT IN ('no', 'much') AND label = 'narrowed' GROUP BY sex, bins(age, 7)"
    )
    found = question_of(text, TABLE)
    ages = Every(parts=(Compare(column="age", operator=">=", value=40.0), Compare(column="age", operator="<=", value=60.0)))
    assert found.where == Every(
        parts=(
            Either(parts=(ages, Compare(column="shift", operator=">", value=1.5))),
            Negated(part=Compare(column="sex", operator="=", value="Male")),
            Negated(part=Missing(column="chol")),
            Negated(part=Among(column="pain", values=("no", "much"))),
            Compare(column="label", operator="=", value="defect"),
        )
    )
    assert found.groups == (Levels(column="sex"), Bins(column="age", count=7))


def test_aggregates_and_their_names() -> None:
    text = (
        "SELECT sex AS who, avg(age) AS mean_age, var_pop(chol), stddev(chol), median(age), quantile_cont(age, 0.9),"
        " quantile_bins(age, 0.1, 30), count(chol), sum(shift) FROM clinic GROUP BY who"
    )
    found = question_of(text, TABLE)
    kinds = [(one.kind, one.column, one.share_ppm, one.bins, one.sample) for one in found.select]
    assert kinds == [
        ("mean", "age", 0, 0, True),
        ("variance", "chol", 0, 0, False),
        ("deviation", "chol", 0, 0, True),
        ("quantile", "age", 500_000, 16, True),
        ("quantile", "age", 900_000, 16, True),
        ("quantile", "age", 100_000, 30, True),
        ("count", "chol", 0, 0, True),
        ("sum", "shift", 0, 0, True),
    ]
    assert found.select[0].name == "mean_age" and question_of("SELECT sex FROM clinic GROUP BY 1", TABLE).select[0].kind == "count"


def test_the_table_is_named() -> None:
    assert table_named('SELECT count(*) FROM "heart-screening"') == "heart-screening"


@given(st.text(alphabet="SELECT count(*)FROMWHEREagesx'\"=<>()1;-/*,", max_size=60))
@settings(max_examples=150, deadline=None)
def test_no_text_does_anything_but_be_read_or_refused(text: str) -> None:
    try:
        question_of(text, TABLE)
    except InputError as error:
        assert error.next_step
