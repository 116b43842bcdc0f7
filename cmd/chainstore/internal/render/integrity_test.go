package render

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/clitest"
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
	in := clitest.SampleIntegrity()
	want := sampleIntegrityText
	for i, utc := range []string{"2023-11-14 22:13:18", "2023-11-14 22:13:17"} {
		want = strings.ReplaceAll(want, utc, time.UnixMilli(int64(in.Events[i].Time)).Format(time.DateTime))
	}
	now := time.UnixMilli(clitest.Time + 30_000)
	if out := Integrity(&in, 0, now, StandardWidth); out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}

	clitest.Repairing(&in, &in.Nodes[0])
	in.Nodes[0].Bad, in.Nodes[0].Cause = []chain.Range{{From: 5, To: 6}, {From: 7, To: 10}}, "damaged: blocks 5, 7 to 9"
	in.Nodes[1].Due, in.Nodes[1].Checked = "stopped uncleanly", 0
	in.Nodes = append(in.Nodes, wire.NodeIntegrity{ID: "s-dead", URL: "http://127.0.0.1:8084", State: "invalid"})
	in.Lost, in.Confirmed = []chain.Range{{From: 2, To: 4}}, []chain.Range{{From: 2, To: 3}}
	in.Nodes = append(in.Nodes, wire.NodeIntegrity{
		ID: "s-bad", URL: "http://127.0.0.1:8085", State: "invalid", Live: true,
		Due: "a check was requested",
	})
	in.Notices = []string{"block 3 is \x1b[2Jlost"}
	out := Integrity(&in, 3, now, StandardWidth)
	for _, want := range []string{
		"  receiving  30s ago  5, 7-9  repair 25%\n", "  never    -       check due\n", "  not live\n",
		"\n! s-ddddeeeeffff: a check is due: stopped uncleanly\n",
		"  check later\n", "\n! s-bad: a check is due once the node is valid again: a check was requested\n",
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
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > StandardWidth {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	none := Integrity(&wire.Integrity{}, 0, now, StandardWidth)
	if !strings.HasPrefix(none, "NODE  none\n") || !strings.HasSuffix(none, "\nnothing was found yet\n") {
		t.Errorf("of nothing:\n%s", none)
	}
}

// TestAbortedCheckIsShownOnce checks the response of an older leader without codes, which sends the reason of a due
// check as text only.
func TestAbortedCheckIsShownOnce(t *testing.T) {
	in := clitest.SampleIntegrity()
	n := &in.Nodes[0]
	n.Aborted = &wire.Aborted{Error: "read index: input/output error", Blocks: 3, Height: 12}
	n.Due = "its check ended early, after 3 of 12 blocks: read index: input/output error"
	for _, code := range []string{"", wire.CodeCheckAborted} {
		n.DueCoded.Code = code
		out := Integrity(&in, 0, time.UnixMilli(clitest.Time), 200)
		if strings.Count(out, "read index: input/output error") != 1 || !strings.Contains(out, "s-aaaabbbbcccc  http") {
			t.Errorf("code %q:\n%s", code, out)
		}
	}
	n.Due, n.DueCoded.Code = "asked for", wire.CodeRequested
	out := Integrity(&in, 0, time.UnixMilli(clitest.Time), 200)
	if !strings.Contains(out, "a check is due: asked for") ||
		!strings.Contains(out, "read index: input/output error") {
		t.Errorf("another reason:\n%s", out)
	}
}
