package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

const sampleIntegrityText = `NODE            URL                    STATE  CHECKED  BAD  NOW
s-aaaabbbbcccc  http://127.0.0.1:8082  valid  30s ago  -    -
s-ddddeeeeffff  http://127.0.0.1:8083  valid  2m ago   -    -

checks   40 checks, 40.0 MiB read; found: 1 bad block, 0 bad hashes of the tree
repairs  1 repair, 0 ended early; 1 block sent, 2.0 KiB

TIME                 NODE            WHAT     BLOCKS  BYTES    TOOK
2023-11-14 22:13:18  s-aaaabbbbcccc  repair   1       2.0 KiB  350ms
  from s-ddddeeeeffff; 1 block: 7; 3 bytes of record 2 were changed
2023-11-14 22:13:17  s-aaaabbbbcccc  finding  1       1.0 MiB  1.2s
  damaged: block 7
  - block 7: a record does not match its leaf (payload): segments/0, record 2
`

func TestIntegrityText(t *testing.T) {
	in := sampleIntegrity()
	want := sampleIntegrityText
	for i, utc := range []string{"2023-11-14 22:13:18", "2023-11-14 22:13:17"} {
		want = strings.ReplaceAll(want, utc, time.UnixMilli(int64(in.Events[i].Time)).Format(time.DateTime))
	}
	now := time.UnixMilli(fakeTime + 30_000)
	if out := render.Integrity(&in, 0, now, render.StandardWidth); out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}

	repairing(&in, &in.Nodes[0])
	in.Nodes[0].Bad, in.Nodes[0].Cause = []chain.Range{{From: 5, To: 6}, {From: 7, To: 10}}, "damaged: blocks 5, 7 to 9"
	in.Nodes[1].Due, in.Nodes[1].Checked = "stopped uncleanly", 0
	in.Nodes = append(in.Nodes, wire.NodeIntegrity{ID: "s-dead", URL: "http://127.0.0.1:8084", State: stateInvalid})
	in.Lost, in.Confirmed = []chain.Range{{From: 2, To: 4}}, []chain.Range{{From: 2, To: 3}}
	in.Notices = []string{"block 3 is \x1b[2Jlost"}
	out := render.Integrity(&in, 3, now, render.StandardWidth)
	for _, want := range []string{
		"  receiving  30s ago  5, 7-9  repair 25%\n", "  never    -       check due\n", "  not live\n",
		"\n! s-ddddeeeeffff: a check is due: stopped uncleanly\n",
		"\n! s-aaaabbbbcccc: receiving: damaged: blocks 5, 7 to 9\n",
		"\n! block 3 is ?[2Jlost\n", "\nLOST: 1 block: 3. No storage node has a good copy.",
		"\n  chainstore integrity confirm-lost 3\n",
		"\nLost, and confirmed: 1 block: 2.\n", "\n3 events before that; --limit 0 shows all\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	for line := range strings.Lines(out) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > render.StandardWidth {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	none := render.Integrity(&wire.Integrity{}, 0, now, render.StandardWidth)
	if !strings.HasPrefix(none, "NODE  none\n") || !strings.HasSuffix(none, "\nnothing was found yet\n") {
		t.Errorf("of nothing:\n%s", none)
	}
}

func TestIntegrity(t *testing.T) {
	f := newFakeCluster(t)
	f.use(t)
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
	f := newFakeCluster(t)
	f.use(t)
	f.Integrity.Lost = []chain.Range{{From: 5, To: 8}}
	_, _, err := run(t, strings.NewReader("yes\n"), "integrity", "confirm-lost", "7")
	mustFail(t, err, "there is no terminal to ask on: to confirm that block 7 is lost give --yes")
	if len(f.Integrity.Confirmed) > 0 {
		t.Error("confirmed by nobody")
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
	mustFail(t, err, "(not-lost, HTTP 409)")
	_, _, err = run(t, nil, "integrity", "confirm-lost", "x", "--yes")
	mustFail(t, err, `"x" is not a block number`)
	_, _, err = run(t, nil, "integrity", "confirm-lost")
	mustFail(t, err, "name one block: integrity confirm-lost N")
}

func TestConfirm(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, " YES \n": true, "yes": true, "n\n": false, "\n": false,
		"": false, "yeah\n": false} {
		var asked strings.Builder
		sure, err := confirm(strings.NewReader(answer), &asked, "sure? ")
		if err != nil || sure != want || asked.String() != "sure? " {
			t.Errorf("%q: %v, %v, asked %q", answer, sure, err, asked.String())
		}
	}
}

func TestStorageRemove(t *testing.T) {
	f := newFakeCluster(t)
	f.use(t)
	_, _, err := run(t, nil, "storage", "remove", "s-ddddeeeeffff")
	mustFail(t, err, "(too-few-copies, HTTP 409): add a storage node or wait for a repair first, or give --force")
	out, _, err := run(t, nil, "storage", "remove", "http://127.0.0.1:8083", "--force")
	if want := "http://127.0.0.1:8083 is no longer part of the cluster\n"; err != nil || out != want {
		t.Errorf("%q, %v", out, err)
	}
	if len(f.Removed) != 1 || f.Removed[0] != "s-ddddeeeeffff?force=true" {
		t.Errorf("removed %q", f.Removed)
	}
	_, _, err = run(t, nil, "storage", "remove", "s-nobody")
	mustFail(t, err, "(HTTP 404): 'chainstore status' lists the storage nodes")
	_, _, err = run(t, nil, "storage", "remove")
	mustFail(t, err, "name one storage node")
	_, _, err = run(t, nil, "storage", "removed")
	mustFail(t, err, `unknown command "removed" for "chainstore storage"`)
}
