package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

// fill appends records under the keys a and b in turn.
func fill(t *testing.T, count int) {
	t.Helper()
	for i := range count {
		if _, _, err := run(t, strings.NewReader(fmt.Sprint("record ", i)), "append", "--key",
			string(rune('a'+i%2))); err != nil {
			t.Fatal(err)
		}
	}
}

func TestList(t *testing.T) {
	f := newFakeCluster(t)
	f.use(t)
	fill(t, 9)
	head := "INDEX       POSITION    TIME                       KEY               SIZE        PAYLOAD\n"
	row := func(i int) string {
		return fmt.Sprintf("%-10d  %d/%d         2023-11-14T22:13:20Z       %c                 8 B         record %d\n",
			i+i/4, i/4, i%4, 'a'+i%2, i)
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--limit", "3"}, head + row(0) + row(1) + row(2)},
		{[]string{"--key", "b"}, head + row(1) + row(3) + row(5) + row(7)},
		{[]string{"--key", "a", "--from", "6", "--project", "default"}, head + row(6) + row(8)},
		{[]string{"--key", "nobody"}, ""},
		{[]string{"--until", "2023-11-14T22:13:20Z"}, ""},
		{[]string{"--since", "1700000000001"}, ""},
		{[]string{"--until", "1h", "--key", "a", "--limit", "1"}, head + row(0)},
		{[]string{"--since", "1h"}, ""},
	} {
		out, errs, err := run(t, nil, append([]string{"list"}, test.args...)...)
		if err != nil || out != test.want || errs != "" {
			t.Errorf("%q: %v %s\n%swant\n%s", test.args, err, errs, out, test.want)
		}
	}
	out, _, err := run(t, nil, "list", "--json", "--limit", "0")
	if err != nil || strings.Count(out, "\n") != 9 {
		t.Fatalf("%v: %s", err, out)
	}
	var r wire.Record
	if err := json.Unmarshal([]byte(strings.Split(out, "\n")[4]), &r); err != nil || r.Index != 5 ||
		string(r.Payload) != "record 4" {
		t.Errorf("%+v, %v", r, err)
	}
	_, _, err = run(t, nil, "list", "--until", "tomorrow")
	mustFail(t, err, `--until "tomorrow" is no time`)
	_, _, err = run(t, nil, "list", "--project", "another")
	mustFail(t, err, "Not found (HTTP 404)")
	f.Change(func() { f.AddProject("another", false, "") })
	_, _, err = run(t, nil, "list", "--project", "another")
	mustFail(t, err, "forbidden, HTTP 403")
	_, _, err = run(t, nil, "list", "extra")
	mustFail(t, err, "extra")
}

func TestTail(t *testing.T) {
	f := newFakeCluster(t)
	f.use(t)
	fill(t, 9)
	lines := func(out string) (payloads []string) {
		for line := range strings.Lines(out) {
			if _, payload, ok := strings.Cut(line, "record "); ok {
				payloads = append(payloads, strings.TrimSpace(payload))
			}
		}
		return payloads
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "[0 1 2 3 4 5 6 7 8]"}, {[]string{"-n", "2"}, "[7 8]"}, {[]string{"-n", "2", "--key", "b"}, "[5 7]"},
		{[]string{"-n", "0"}, "[]"}, {[]string{"--key", "nobody"}, "[]"},
	} {
		out, _, err := run(t, nil, append([]string{"tail"}, test.args...)...)
		if got := fmt.Sprint(lines(out)); err != nil || got != test.want {
			t.Errorf("%q: %s, %v", test.args, got, err)
		}
	}
	// Following, through streams that break off all the time, to which a record is added each time.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	added := 9
	f.Change(func() {
		f.Streaming = func() {
			if added == 12 {
				cancel()
				return
			}
			f.Append(f.Projects[0], "", textType, []byte("one more"))
			added++
		}
	})
	out, errs, err := runContext(ctx, nil, "tail", "-f", "-n", "1", "--json")
	if err != nil || errs != "" || strings.Count(out, "\n") != 4 {
		t.Errorf("%v %s: %s", err, errs, out)
	}
	for _, index := range []string{`"index":10,`, `"index":11,`, `"index":12,`, `"index":13,`} {
		if strings.Count(out, index) != 1 {
			t.Errorf("no, or more than one %s: %s", index, out)
		}
	}
	if strings.Count(out, "INDEX") > 0 {
		t.Errorf("a head among JSON: %s", out)
	}
}

func TestGetByKey(t *testing.T) {
	f := newFakeCluster(t)
	f.use(t)
	fill(t, 5)
	for key, want := range map[string]string{"a": "record 4", "b": "record 3"} {
		if out, _, err := run(t, nil, "get", "--key", key); err != nil || out != want {
			t.Errorf("%s: %q, %v", key, out, err)
		}
	}
}

func TestGlimpse(t *testing.T) {
	for payload, want := range map[string]string{
		"hello":                                "hello",
		"two\nlines\x1b[2J":                    "two?lines?[2J",
		"\xff\xfe":                             "x/y",
		strings.Repeat("a", 100):               strings.Repeat("a", 39) + "…",
		strings.Repeat("链", 100):               strings.Repeat("链", 39) + "…",
		"a" + strings.Repeat("\U0001f512", 99): "a" + strings.Repeat("\U0001f512", 38) + "…",
	} {
		if got := glimpse(&wire.Record{Type: "x/y", Payload: []byte(payload)}); got != want {
			t.Errorf("%q: %q, want %q", payload, got, want)
		}
	}
}

// A record of an older cluster may hold in its key and type what steers a terminal: neither form prints it.
func TestControlCharactersArePrintedSafely(t *testing.T) {
	text := "a\x00\n\x1b[2J\x7f\u009b1mä"
	r := wire.Record{Key: text, Type: text, Payload: []byte("\xff" + text)}
	var table, asJSON bytes.Buffer
	if err := (&recordTable{out: &table}).print(&r); err != nil {
		t.Fatal(err)
	}
	if err := render.JSON(&asJSON, r); err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{table.String(), asJSON.String()} {
		for _, line := range strings.Split(strings.TrimSuffix(out, "\n"), "\n") {
			if render.Plain(line) != line {
				t.Errorf("%q would steer a terminal", line)
			}
		}
	}
	if lines := strings.Count(table.String(), "\n"); lines != 2 {
		t.Errorf("a row and its head are %d lines: %q", lines, table.String())
	}
	var back wire.Record
	if err := json.Unmarshal(asJSON.Bytes(), &back); err != nil || back.Key != text || back.Type != text {
		t.Errorf("%+v, %v", back, err)
	}
}
