package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/clitest"
	"github.com/chainstore/chainstore/wire"
)

func TestGet(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	if _, _, err := run(t, strings.NewReader("\x00one\n\xff\n"), "append", "--key", "k"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := run(t, strings.NewReader("two\nthree\nfour\n"), "append", "--lines"); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"get", "0", "0"}, {"get", "--index", "0"}} {
		out, errs, err := run(t, nil, args...)
		if err != nil || out != "\x00one\n\xff\n" || errs != "" {
			t.Errorf("%q: %q, %q, %v", args, out, errs, err)
		}
	}
	out, _, err := run(t, nil, "get", "0", "1", "--json")
	var r wire.Record
	if err != nil || json.Unmarshal([]byte(out), &r) != nil || string(r.Payload) != "two" || r.Offset != 1 ||
		strings.Count(out, "\n") != 1 {
		t.Errorf("--json: %q, %v", out, err)
	}
	tests := []struct {
		args []string
		want string
	}{
		{nil, "name one record: get BLOCK OFFSET, get --index N, or get --key KEY"},
		{[]string{"1"}, "name one record"},
		{[]string{"1", "2", "--index", "3"}, "name one record"},
		{[]string{"1", "2", "--key", "k"}, "name one record"},
		{[]string{"--index", "0", "--key", "k"}, "name one record"},
		{[]string{"--key", "nobody's"}, `no record of this project has the key "nobody's"`},
		{[]string{"one", "2"}, `BLOCK "one" is not a whole number`},
		{[]string{"--", "1", "-2"}, `OFFSET "-2" is not a whole number`},
		{[]string{"1", "4294967296"}, `OFFSET "4294967296" is too large: the limit is 4294967295`},
		{[]string{"18446744073709551616", "0"}, `is too large: the limit is 18446744073709551615`},
		{[]string{"9", "0"}, "Not found (HTTP 404)"},
		{[]string{"--index", "4"}, "a block's records are before its seal"},
	}
	for _, test := range tests {
		out, _, err := run(t, nil, append([]string{"get"}, test.args...)...)
		clitest.MustFail(t, err, test.want)
		if out != "" {
			t.Errorf("%q printed %q", test.args, out)
		}
	}
	// A record that does not match its hash is not printed.
	f.Change(func() { f.Liar = true })
	out, _, err = run(t, nil, "get", "0", "1")
	clitest.MustFail(t, err, "the content does not match its hash")
	if out != "" {
		t.Errorf("printed %q", out)
	}
}

func TestBlocks(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	hash := func(n int) string { return f.Blocks[n].Hash.String()[:12] }
	head := "BLOCK  RECORDS  FIRST  TIME                       DIFFICULTY  HASH\n"
	two := "2      4        10     2023-11-14T22:13:22Z       4           " + hash(2) + "\n"
	one := "1      4        5      2023-11-14T22:13:21Z       4           " + hash(1) + "\n"
	zero := "0      4        0      2023-11-14T22:13:20Z       4           " + hash(0) + "\n"
	for _, test := range []struct{ limit, want string }{
		{"1", head + two}, {"2", head + two + one}, {"0", head + two + one + zero}, {"99", head + two + one + zero},
	} {
		out, _, err := run(t, nil, "blocks", "--limit", test.limit)
		if err != nil || out != test.want {
			t.Errorf("--limit %s: %v\n%swant\n%s", test.limit, err, out, test.want)
		}
	}
	out, _, err := run(t, nil, "blocks", "--json")
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(strings.NewReader(out))
	for n := 2; n >= 0; n-- {
		var b wire.Block
		if err := decoder.Decode(&b); err != nil || b != f.Blocks[n] {
			t.Errorf("block %d: %+v, %v", n, b, err)
		}
	}
	f.Change(func() { f.Blocks = nil })
	if out, _, err = run(t, nil, "blocks"); err != nil || out != head {
		t.Errorf("empty chain: %q, %v", out, err)
	}
}

func TestProjectCreate(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	out, errs, err := run(t, nil, "project", "create", "sensors", "--public")
	if want := "id     7\nname   sensors\ntoken  NEWTOKEN-7-1\n"; err != nil || out != want ||
		!strings.Contains(errs, "keep it") {
		t.Errorf("got %q, %q, %v; want %q", out, errs, err, want)
	}
	if n := len(f.Projects); n != 2 || !f.Projects[1].Public {
		t.Errorf("projects %+v", f.Projects)
	}
	out, errs, err = run(t, nil, "project", "create", "other", "--json")
	if want := `{"id":8,"name":"other","public":false,"token":"NEWTOKEN-8-1","token_id":1}` + "\n"; err != nil ||
		out != want || errs != "" {
		t.Errorf("got %q, %q, %v; want %q", out, errs, err, want)
	}
	_, _, err = run(t, nil, "project", "create", "other")
	clitest.MustFail(t, err, "Name taken")
	_, _, err = run(t, nil, "project", "create")
	clitest.MustFail(t, err, "name one project: project create NAME")
	t.Setenv(cli.EnvAdminToken, clitest.ProjectToken)
	_, _, err = run(t, nil, "project", "create", "third")
	clitest.MustFail(t, err, "HTTP 403")
}
