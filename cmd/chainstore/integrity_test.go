package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/clitest"
	"github.com/chainstore/chainstore/wire"
)

func TestIntegrity(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	out, _, err := run(t, nil, "integrity", "--limit", "1")
	if err != nil || strings.Count(out, "s-aaaabbbbcccc  repair") != 1 || strings.Contains(out, "  finding  ") ||
		!strings.HasSuffix(out, "\n1 event before that; --limit 0 shows all\n") {
		t.Errorf("%v, printed\n%s", err, out)
	}
	for limit, want := range map[string]int{"0": 2, "1": 1, "20": 2} {
		out, _, err := run(t, nil, "integrity", "--json", "--limit", limit)
		var in wire.Integrity
		if err != nil || json.Unmarshal([]byte(out), &in) != nil || len(in.Events) != want || in.Events[0].Number != 2 {
			t.Errorf("--limit %s: %v, %s", limit, err, out)
		}
	}
}

func TestConfirmLost(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	f.Integrity.Lost = []chain.Range{{From: 5, To: 8}}
	_, _, err := run(t, strings.NewReader("yes\n"), "integrity", "confirm-lost", "7")
	clitest.MustFail(t, err, "there is no terminal to ask on: to confirm that block 7 is lost give --yes")
	if len(f.Integrity.Confirmed) > 0 {
		t.Error("the loss was confirmed without an answer")
	}
	out, _, err := run(t, nil, "integrity", "confirm-lost", "7", "--yes")
	if want := "block 7 is confirmed as lost\nlost and not confirmed: 2 blocks: 5-6\n"; err != nil || out != want {
		t.Errorf("%q, %v; want %q", out, err, want)
	}
	out, _, err = run(t, nil, "integrity", "confirm-lost", "5", "-y", "--json")
	var in wire.Integrity
	if err != nil || json.Unmarshal([]byte(out), &in) != nil || len(in.Confirmed) != 2 {
		t.Errorf("%q, %v", out, err)
	}
	_, _, err = run(t, nil, "integrity", "confirm-lost", "9", "--yes")
	clitest.MustFail(t, err, "(not-lost, HTTP 409)")
	_, _, err = run(t, nil, "integrity", "confirm-lost", "x", "--yes")
	clitest.MustFail(t, err, `"x" is not a block number`)
	_, _, err = run(t, nil, "integrity", "confirm-lost")
	clitest.MustFail(t, err, "name one block: integrity confirm-lost N")
}

func TestStorageRemove(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	_, _, err := run(t, nil, "storage", "remove", "s-ddddeeeeffff")
	clitest.MustFail(t, err, "(too-few-copies, HTTP 409): add a storage node or wait for a repair first, or give "+
		"--force")
	out, _, err := run(t, nil, "storage", "remove", "http://127.0.0.1:8083", "--force")
	if want := "http://127.0.0.1:8083 is no longer part of the cluster\n"; err != nil || out != want {
		t.Errorf("%q, %v", out, err)
	}
	if len(f.Removed) != 1 || f.Removed[0] != "s-ddddeeeeffff?force=true" {
		t.Errorf("removed %q", f.Removed)
	}
	_, _, err = run(t, nil, "storage", "remove", "s-nobody")
	clitest.MustFail(t, err, "(HTTP 404): 'chainstore status' lists the storage nodes")
	_, _, err = run(t, nil, "storage", "remove")
	clitest.MustFail(t, err, "name one storage node")
	_, _, err = run(t, nil, "storage", "removed")
	clitest.MustFail(t, err, `unknown command "removed" for "chainstore storage"`)
}
