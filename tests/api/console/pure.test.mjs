// The console's modules that know no page, run by `node --test` (test_modules.py does).

import assert from "node:assert/strict";
import { test } from "node:test";

import { adviceOf } from "../../../api/console/advice.mjs";
import { Problem, asProblem } from "../../../api/console/calls.mjs";
import { csvOf } from "../../../api/console/csv.mjs";
import { curlLine } from "../../../api/console/curl.mjs";
import { explainedParts, stageSentence } from "../../../api/console/explanation.mjs";
import { about, ago, count, milliseconds, moment, score, size } from "../../../api/console/figures.mjs";
import { readJson, typedValue, writeJson } from "../../../api/console/json.mjs";
import { parameterNames } from "../../../api/console/parameters.mjs";
import { hashOf, placeOf } from "../../../api/console/place.mjs";
import { keyText, rowPath, searchBody, sqlBody } from "../../../api/console/request.mjs";
import { retrySentence, secondsToWait } from "../../../api/console/retry.mjs";
import { MOST_BARS, linear, seriesOf, shares, ticks } from "../../../api/console/scale.mjs";
import { excerpt, spotOf } from "../../../api/console/spot.mjs";
import { markedPieces } from "../../../api/console/words.mjs";

function marked(text, query, language) {
  return markedPieces(text, query, language)
    .map((piece) => (piece.marked ? `[${piece.text}]` : piece.text))
    .join("");
}

test("words of the query are marked, whatever their case, and the pieces are the text", () => {
  assert.equal(marked("Otters: an OTTER, the otterhound", "otter", "none"), "Otters: an [OTTER], the otterhound");
  const text = "<b>otter</b> & Öl";
  assert.equal(
    markedPieces(text, "otter öl", "german")
      .map((piece) => piece.text)
      .join(""),
    text,
  );
  assert.equal(marked(text, "öl b", "german"), "<[b]>otter</[b]> & [Öl]");
});

test("English words are marked in their other forms, stop words are not", () => {
  assert.equal(
    marked("Stories of the rivers; running, he ran", "the story of a river run", "english"),
    "[Stories] of the [rivers]; [running], he ran",
  );
  assert.equal(
    marked("nests and nesting and a nested class", "nest classes", "english"),
    "[nests] and [nesting] and a [nested] [class]",
  );
});

test("a query without words marks nothing", () => {
  assert.deepEqual(markedPieces("a text", ' +"!? ', "none"), [{ text: "a text", marked: false }]);
  assert.deepEqual(markedPieces("", "a", "none"), []);
});

test("a place is counted in characters, not in UTF-16 units", () => {
  const text = "a = '😀😀' AND\n  nope = 1";
  assert.deepEqual(spotOf(text, { line: 2, column: 3, length: 4 }), { start: 17, end: 21 });
  const emoji = spotOf("'😀' = x", { line: 1, column: 7, length: 1 });
  assert.equal("'😀' = x".slice(emoji.start, emoji.end), "x");
});

test("a mistake without a place, or with one beyond the text, marks nothing", () => {
  assert.equal(spotOf("a", { message: "m" }), null);
  assert.equal(spotOf("a", { line: 3, column: 1, length: 1 }), null);
  assert.deepEqual(spotOf("ab", { line: 1, column: 3, length: 1 }), { start: 2, end: 2 });
});

test("an excerpt is the line of a place, cut where it is long", () => {
  assert.deepEqual(excerpt("one\ntwo x\nthree", { start: 8, end: 9 }), { before: "two ", marked: "x", after: "" });
  const cut = excerpt("a".repeat(100) + "!" + "b".repeat(100), { start: 100, end: 101 }, 3);
  assert.deepEqual(cut, { before: "…aaa", marked: "!", after: "bbb…" });
});

test("parameters are found where they are none of a text or a cast", () => {
  assert.deepEqual(parameterNames("a > :least AND b = ':no' AND c::int < :most AND \"x:y\" = :least"), [
    "least",
    "most",
  ]);
  assert.deepEqual(parameterNames("col:path = 1"), []);
});

test("a curl line has what was sent, quoted for a shell, and $KEY for the key", () => {
  const sent = { method: "POST", url: "http://h:1/v1/sql", body: '{"sql": "it\'s"}' };
  assert.equal(
    curlLine(sent, true),
    'curl -fsS http://h:1/v1/sql -H "Authorization: Bearer $KEY" ' +
      `-H 'content-type: application/json' -d '{"sql": "it'\\''s"}'`,
  );
  assert.equal(curlLine({ method: "GET", url: "http://h:1/rows/a'b" }, false), "curl -fsS 'http://h:1/rows/a'\\''b'");
});

test("CSV quotes what needs it and tells NULL from the empty text", () => {
  assert.equal(
    csvOf(
      ["a", "b,c"],
      [
        [null, ""],
        ['x "y"', [1, null]],
        [1.5, "two\nlines"],
      ],
    ),
    'a,"b,c"\r\n,""\r\n"x ""y""","[1,null]"\r\n1.5,"two\nlines"\r\n',
  );
});

test("whole numbers of 64 bits keep their digits both ways", () => {
  assert.deepEqual(
    readJson('{"key": 9223372036854775807, "n": 7, "s": "9223372036854775807 \\" 1", "f": 0.12345678901234567}'),
    { key: "9223372036854775807", n: 7, s: '9223372036854775807 " 1', f: 0.12345678901234567 },
  );
  assert.equal(
    writeJson({ params: { id: typedValue("9223372036854775807"), list: [1, "a"] }, none: {} }),
    '{"params": {"id": 9223372036854775807, "list": [1, "a"]}, "none": {}}',
  );
  assert.equal(writeJson({ a: { b: 1 } }, "  "), '{\n  "a": {\n    "b": 1\n  }\n}');
});

test("what is typed for a parameter is JSON or else text", () => {
  assert.deepEqual(["7", "pillow", '["a"]', '"7"', "null", ""].map(typedValue), [7, "pillow", ["a"], "7", null, ""]);
});

test("what is typed for a parameter keeps its digits inside lists and objects", () => {
  assert.deepEqual(typedValue("[9007199254740993, 9223372036854775807, 1]"), [
    9007199254740993n,
    9223372036854775807n,
    1,
  ]);
  assert.equal(
    writeJson(typedValue(' {"a": [-9223372036854775808, "9223372036854775807"], "1234567890123456789": null} ')),
    '{"a": [-9223372036854775808, "9223372036854775807"], "1234567890123456789": null}',
  );
});

test("what is no JSON is text, and so is a number larger than any", () => {
  for (const text of ["00012345678901234567890", "1e400", "[1, -1e400]", "NaN", "[9223372036854775807"])
    assert.equal(typedValue(text), text);
});

test("an answer that is odd is a problem without what is odd in it", () => {
  for (const odd of ["boom", null, undefined, 7, {}, [null, "boom", 7, {}, { message: 7 }]]) {
    const problem = new Problem({ status: 502, title: 7, detail: { a: 1 }, code: null, errors: odd });
    assert.deepEqual([problem.errors, problem.detail, problem.code, problem.status], [[], "", "", 502]);
    assert.match(problem.title, /^The server said/);
  }
  const { errors } = new Problem({ errors: [{ message: "m", field: 1, hint: [], line: "2", column: 3, code: "c" }] });
  assert.deepEqual(errors, [{ message: "m", column: 3, code: "c" }]);
  const known = new Problem({ title: "t" });
  assert.equal(asProblem(known), known);
  assert.equal(asProblem(new TypeError("x is undefined")).errors[0].message, "TypeError: x is undefined");
});

test("when to try again is in seconds or a date, and within five minutes", () => {
  const now = Date.parse("2026-10-21T07:28:00Z");
  const said = ["7", "0", "1.2", "99999", "Wed, 21 Oct 2026 07:28:30 GMT", "Wed, 21 Oct 2015 07:28:00 GMT"];
  assert.deepEqual(
    said.map((header) => secondsToWait(header, now)),
    [7, 1, 2, 300, 30, 1],
  );
  for (const none of [null, "", "soon", "-5", "1e9", "Wed, 99 Oct 2026 GMT"]) assert.equal(secondsToWait(none), null);
  assert.deepEqual([1, 30, 91, 300].map(retrySentence), [
    "Try again in 1 second.",
    "Try again in 30 seconds.",
    "Try again in 2 minutes.",
    "Try again in 5 minutes.",
  ]);
});

test("a search's body leaves out what is at its default", () => {
  assert.deepEqual(searchBody({ collection: "books", query: "otter" }), { query: "otter", explain: true });
  assert.deepEqual(searchBody({ filter: "a > :b AND :c", "param.b": "1", "param.x": "2", explain: "no" }), {
    filter: "a > :b AND :c",
    params: { b: 1 },
  });
});

test("a key is written and read back, composite or not", () => {
  for (const values of [["CVE-1"], ["7"], ["[a"], ["plain", "2"]]) {
    const { like } = searchBody({ like: keyText(values) });
    assert.deepEqual(Array.isArray(like) ? like : [like], values);
  }
});

test("a search's body has all that a form can say", () => {
  const fields = {
    query: "q",
    mode: "hybrid",
    k: "3",
    filter: "a = 1",
    dialect: "duckdb",
    fusion: "rrf",
    vector_weight: "0.7",
    rerank: "yes",
    rerank_depth: "20",
    decay: "day",
    decay_scale: "30d",
    decay_kind: "gauss",
    decay_origin: "2026",
    decay_weight: "0.5",
    collapse: "package",
    collapse_most: "2",
    diversify: "yes",
    diversity: "0.3",
    min_version: "4",
    max_staleness_seconds: "2.5",
    deadline_ms: "x",
  };
  assert.deepEqual(searchBody(fields), {
    query: "q",
    mode: "hybrid",
    k: 3,
    filter: "a = 1",
    dialect: "duckdb",
    fusion: { kind: "rrf", weights: { vector: 0.7, keyword: 0.3 } },
    rerank: { depth: 20 },
    decay: { column: "day", scale: "30d", kind: "gauss", origin: 2026, weight: 0.5 },
    collapse: { column: "package", most: 2 },
    diversify: { diversity: 0.3 },
    min_version: 4,
    max_staleness_seconds: 2.5,
    deadline_ms: "x",
    explain: true,
  });
  assert.equal("fusion" in searchBody({ query: "q", mode: "keyword", vector_weight: "0.7" }), false);
});

test("a statement's body and a row's path", () => {
  assert.deepEqual(sqlBody({ sql: "SELECT :a", "param.a": "x", dialect: "postgres" }), {
    sql: "SELECT :a",
    params: { a: "x" },
    dialect: "postgres",
  });
  assert.equal(rowPath("books", ["a/b, c", "7"]), "v1/collections/books/rows/a%2Fb%2C%20c,7");
});

test("a place goes into the address and comes back", () => {
  const place = { tab: "search", fields: { collection: "books", query: "a & b = c? #1 + ä", filter: "x\n= 1" } };
  assert.deepEqual(placeOf(hashOf(place)), place);
  assert.equal(hashOf({ tab: "sql", fields: { sql: "" } }), "#sql");
  for (const none of ["", "#", "#nowhere?x=1"]) assert.deepEqual(placeOf(none), { tab: "collections", fields: {} });
});

test("an explanation's parts are in order and add up", () => {
  const leg = (added) => ({ rank: 1, raw_score: 2, normalised_score: 1, weight: added, added });
  const decay = { rank_before: 2, score_before: 0.8, relevance: 1, distance: null, factor: 0.5, weight: 1, score: 0.5 };
  const parts = explainedParts({ keyword: leg(0.25), vector: leg(0.5), decay });
  assert.deepEqual(
    parts.legs.map(({ name }) => name),
    ["vector", "keyword"],
  );
  assert.equal(parts.fused, 0.75);
  assert.equal(
    stageSentence(parts.stages[0], String),
    "was 0.8, rank 2; 1 of the best, no value, so factor 0.5 with weight 1: 0.5",
  );
  const [stage] = explainedParts({ collapse: { rank_before: 3, score_before: 0.5, turn: 2, most: 2 } }).stages;
  assert.equal(stageSentence(stage, String), "was 0.5, rank 3; number 2 of its value");
});

test("figures read well", () => {
  assert.deepEqual([0.25, 42, 90, 7200, 200_000, null].map(ago), ["0.3 s", "42 s", "1.5 min", "2.0 h", "2.3 d", "–"]);
  assert.deepEqual([0, 1234567, "9223372036854775807", null].map(count), [
    "0",
    "1,234,567",
    "9,223,372,036,854,775,807",
    "–",
  ]);
  assert.deepEqual([0.5, 0, 1e-5, 123.456, null].map(score), ["0.5000", "0.0000", "1.00e-5", "123.5", "–"]);
  assert.deepEqual([0.312, 12.34, 1204.4].map(milliseconds), ["0.31 ms", "12.3 ms", "1,204 ms"]);
  assert.deepEqual([0, 512, 1536, 5 * 2 ** 40].map(size), ["0 B", "512 B", "1.5 KiB", "5.0 TiB"]);
  assert.deepEqual([moment("2026-01-02T03:04:05.678Z"), moment(null)], ["2026-01-02 03:04:05 UTC", "–"]);
});

test("a number is written as it is, or said to be about as much", () => {
  assert.deepEqual(["1234567", "-12345678.5", "0.1", "1e-7"].map(about), ["1234567", "-12345678.5", "0.1", "1e-7"]);
  assert.deepEqual(
    ["9007199254740993", "0.30000000000000004", "-1.7976931348623157e+308", "123456789.00000"].map(about),
    ["≈ 9.0072e+15", "≈ 0.3", "≈ -1.7977e+308", "≈ 123460000"],
  );
});

test("one column of texts and one of numbers are bars, in the order of the rows", () => {
  const columns = [
    { name: "n", type: "BIGINT" },
    { name: "shelf", type: "STRING" },
  ];
  assert.deepEqual(
    seriesOf(columns, [
      [3, "a"],
      [null, "b"],
      ["4", null],
    ]),
    {
      kind: "bars",
      label: "shelf",
      value: "n",
      left: 1,
      points: [
        { label: "a", at: 0, value: 3, exact: "3" },
        { label: "NULL", at: 0, value: 4, exact: "4" },
      ],
    },
  );
  assert.equal(
    seriesOf(
      columns,
      Array.from({ length: 99 }, (_, at) => [at, "x"]),
    ).points.length,
    MOST_BARS,
  );
});

test("one column of dates and one of numbers are a line, in the order of time", () => {
  const columns = [
    { name: "day", type: "DATE" },
    { name: "n", type: "DECIMAL(9, 2)" },
  ];
  const series = seriesOf(columns, [
    ["2026-01-02", "1.50"],
    ["2026-01-01", "2.00"],
    [null, "3"],
  ]);
  assert.deepEqual([series.kind, series.points.map(({ value }) => value), series.left], ["line", [2, 1.5], 1]);
});

test("other answers have no chart", () => {
  const number = { name: "n", type: "DOUBLE" };
  assert.equal(seriesOf([number, number], [[1, 2]]), null);
  assert.equal(seriesOf([number], [[1]]), null);
  assert.equal(seriesOf([number, { name: "s", type: "STRING" }], []), null);
});

test("scales, ticks and shares", () => {
  assert.deepEqual([0, 5, 10].map(linear([0, 10], [100, 0])), [100, 50, 0]);
  assert.equal(linear([3, 3], [0, 10])(3), 5);
  assert.deepEqual([-1.7e308, 0, 1.7e308].map(linear([-1.7e308, 1.7e308], [0, 10])), [0, 5, 10]);
  assert.equal(linear([0, 5e-324], [0, 10])(5e-324), 5);
  assert.deepEqual(ticks(-1.7e308, 1.7e308, 4), [-1e308, 0, 1e308]);
  assert.deepEqual(ticks(0, 1, 5), [0, 0.2, 0.4, 0.6, 0.8, 1]);
  assert.deepEqual(ticks(-30, 70, 4), [0, 50]);
  assert.deepEqual(ticks(2, 2), [2]);
  assert.deepEqual(shares([1, 3, -2]), [0.25, 0.75, 0]);
  assert.deepEqual(shares([0, -1]), [0, 0]);
});

test("what somebody should see to is said in sentences, the server's own among them", () => {
  const well = { name: "books", state: "open", source: {}, warnings: [], dead_letters: 0, failure: null, version: 3 };
  assert.deepEqual(adviceOf(well), []);
  const failure = { version: 4, file: "a.tar", error: "is damaged", retry_at: "2026-01-02T03:04:05Z" };
  const said = adviceOf({ ...well, warnings: ["books: the last sync failed 2 s ago"], dead_letters: 2, failure });
  assert.deepEqual(
    said.map(({ level }) => level),
    ["bad", "warn", "warn"],
  );
  assert.match(
    said[0].text,
    /^Version 4 cannot be opened \(a\.tar\): is damaged\. Until it can, version 3 is served on; .* 03:04:05 UTC\.$/,
  );
  assert.equal(said[1].text, "The last sync failed 2 s ago");
  assert.match(said[2].text, /^2 rows are set aside.*`grebe status books`/);
  assert.match(adviceOf({ ...well, source: null })[0].text, /`grebe sync books`/);
  assert.match(adviceOf({ ...well, rebuild_pending: true })[0].text, /^A spec waits for its index: `grebe sync books`/);
});
