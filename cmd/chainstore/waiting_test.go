package main

import (
	"strings"
	"testing"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/clitest"
	"github.com/chainstore/chainstore/wire"
)

// TestWaitingWorkers lists, approves and refuses workers that wait, each by the commands of its role.
func TestWaitingWorkers(t *testing.T) {
	t.Setenv("TZ", "UTC")
	f := clitest.NewCluster(t)
	f.Waiting = []wire.WaitingWorker{
		{ID: "m-newminer", Role: "miner", URL: "http://127.0.0.1:8078", Since: 1_700_000_000_000},
		{ID: "s-newnode", Role: "storage", URL: "http://127.0.0.1:8085", Since: 1_700_000_000_000},
	}
	f.Use(t)
	out, _, err := run(t, nil, "storage", "waiting")
	if err != nil || !strings.Contains(out, "s-newnode  http://127.0.0.1:8085  2023-11-14T22:13:20Z  no") ||
		strings.Contains(out, "m-newminer") {
		t.Errorf("%v\n%s", err, out)
	}
	out, _, err = run(t, nil, "miner", "waiting", "--json")
	want := `{"id":"m-newminer","role":"miner","url":"http://127.0.0.1:8078","since":1700000000000,` +
		`"approved":false}` + "\n"
	if err != nil || out != want {
		t.Errorf("%v\n%s", err, out)
	}
	out, _, err = run(t, nil, "status")
	if err != nil || !strings.Contains(out, "s-newnode ") || !strings.Contains(out, "WAITING") {
		t.Errorf("%v\n%s", err, out)
	}
	_, _, err = run(t, nil, "miner", "approve", "s-newnode")
	clitest.MustFail(t, err, "s-newnode is no miner: use 'chainstore storage'")
	out, _, err = run(t, nil, "storage", "approve", "s-newnode")
	if err != nil || out != "s-newnode at http://127.0.0.1:8085 is approved, and takes part within seconds\n" {
		t.Errorf("%v\n%s", err, out)
	}
	out, _, err = run(t, nil, "storage", "approve", "s-newnode", "--json")
	if err != nil || !strings.HasSuffix(out, "\"approved\":true}\n") {
		t.Errorf("%v\n%s", err, out)
	}
	_, _, err = run(t, nil, "storage", "refuse", "m-newminer")
	clitest.MustFail(t, err, "m-newminer is no storage node: use 'chainstore miner'")
	out, _, err = run(t, nil, "miner", "refuse", "m-newminer")
	if err != nil || out != "m-newminer is refused\n" || len(f.Waiting) != 1 {
		t.Errorf("%v\n%s", err, out)
	}
	_, _, err = run(t, nil, "miner", "refuse", "m-newminer")
	clitest.MustFail(t, err, "'chainstore miner waiting' lists the miners that wait")
}
