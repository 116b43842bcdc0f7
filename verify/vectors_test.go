package verify_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/chainstore/chainstore/verify"
	"github.com/chainstore/chainstore/wire"
)

// TestVectors holds the package against testdata/vectors.json: made by testdata/vectors.py, which shares no code with
// it.
func TestVectors(t *testing.T) {
	data, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		VerifierKey string          `json:"vkey"`
		Payload     string          `json:"payload"`
		Receipt     json.RawMessage `json:"receipt"`
		Proof       string          `json:"proof"`
		State       json.RawMessage `json:"state"`
		Export      string          `json:"export"`
	}
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	payload, err := hex.DecodeString(v.Payload)
	if err != nil {
		t.Fatal(err)
	}
	exported, err := hex.DecodeString(v.Export)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := verify.NewTrust([]string{v.VerifierKey}, nil, 0)
	if err != nil {
		t.Fatal(err)
	}

	report := verify.Receipt(v.Receipt, trust, payload)
	if !report.Good() || !report.Payload || report.Key != "order/42" || report.Checkpoint.Size != 7 {
		t.Errorf("receipt: %+v", report)
	}
	var r wire.Receipt
	if err := json.Unmarshal(v.Receipt, &r); err != nil {
		t.Fatal(err)
	}
	if report := verify.TlogProof([]byte(v.Proof), trust, r.Leaf); !report.Good() || report.Index != r.Index {
		t.Errorf("proof: %+v", report)
	}

	log, err := verify.Export(t.Context(), bytes.NewReader(exported), verify.ExportOptions{Trust: trust})
	if err != nil || !log.Good() || log.Height != 2 || log.Records != 5 || len(log.Checkpoints) != 1 ||
		log.Checkpoints[0].Root != r.Root {
		t.Errorf("export: %+v, %v", log, err)
	}

	state, err := verify.ParseState(v.State)
	if err != nil || state.Head.Height != 2 || state.Head.Hash != log.Hash ||
		state.Checkpoint.Root != r.Root {
		t.Fatalf("state: %+v, %v", state, err)
	}
	again, err := state.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var mine, theirs bytes.Buffer
	if json.Compact(&mine, again) != nil || json.Compact(&theirs, v.State) != nil || mine.String() != theirs.String() {
		t.Errorf("the state is written as %s, not %s", mine.String(), theirs.String())
	}
}
