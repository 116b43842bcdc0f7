package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/clitest"
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
	f := clitest.NewCluster(t)
	f.Use(t)
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
	clitest.MustFail(t, err, `--until "tomorrow" is not a time`)
	_, _, err = run(t, nil, "list", "--project", "another")
	clitest.MustFail(t, err, "Not found (HTTP 404)")
	f.Change(func() { f.AddProject("another", false, "") })
	_, _, err = run(t, nil, "list", "--project", "another")
	clitest.MustFail(t, err, "forbidden, HTTP 403")
	_, _, err = run(t, nil, "list", "extra")
	clitest.MustFail(t, err, "extra")
}

func TestTail(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
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
	// Follow through streams that always break. A record is added each time.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	added := 9
	f.Change(func() {
		f.Streaming = func() {
			if added == 12 {
				cancel()
				return
			}
			f.Append(f.Projects[0], "", clitest.TextType, []byte("one more"))
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
	f := clitest.NewCluster(t)
	f.Use(t)
	fill(t, 5)
	for key, want := range map[string]string{"a": "record 4", "b": "record 3"} {
		if out, _, err := run(t, nil, "get", "--key", key); err != nil || out != want {
			t.Errorf("%s: %q, %v", key, out, err)
		}
	}
}
