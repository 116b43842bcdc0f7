package offline

import (
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/storagenode/audit"
	"github.com/chainstore/chainstore/wire"
)

func TestVerifyText(t *testing.T) {
	found := audit.Summary{
		Findings: []wire.Finding{{Block: 2, What: chain.WrongFrame, Detail: "segments/0 at 47\x1b[2J"},
			{Block: 9, What: chain.WrongShort}},
		Bad:       []chain.Range{{From: 2, To: 3}, {From: 9, To: 12}},
		Unchecked: 12,
		Lost:      []chain.Range{{From: 4, To: 5}, {From: 6, To: 8}},
	}
	want := `block 2: its frame is damaged (frame): segments/0 at 47?[2J
block 9: the chain ends before it (short-chain)
bad: 4 blocks: 2, 9-11
blocks from 12 on could not be checked: bad blocks before them hide the tree
block 4 is lost; confirmed
blocks 6 to 7 are lost; confirmed
`
	if out := verifyText(&found, render.StandardWidth); out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	if out := verifyText(&audit.Summary{}, render.StandardWidth); out != "" {
		t.Errorf("of a good chain: %q", out)
	}
}
