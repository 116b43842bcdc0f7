package masterapi_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/wire"
)

// witnessNowhere returns the configuration of a witness that cannot be reached.
func witnessNowhere() string {
	const name = "witness.example/nowhere"
	key := append([]byte{4}, make([]byte, 32)...) // of cosignature/v1
	id := sha256.Sum256(append([]byte(name+"\n"), key...))
	return fmt.Sprintf("%s+%x+%s http://127.0.0.1:1/", name, id[:4], base64.StdEncoding.EncodeToString(key))
}

// TestWitnessesHoldNoAppendUp checks that a record is stored even if no checkpoint is published for lack of witnesses,
// and that the response reports this.
func TestWitnessesHoldNoAppendUp(t *testing.T) {
	c := startCluster(t, func(t *devcluster.Topology) {
		t.Witnesses, t.Settings.WitnessQuorum = []string{witnessNowhere()}, 1
	})
	token := c.file.Tokens.Project
	c.do(0, request{name: "until it is stored", method: "POST", path: "/v1/records:batch?wait=stored&timeout=20s",
		token: token, body: `{"text":"a"}`, status: 201})
	began := time.Now()
	_, body := c.do(1, request{name: "with a receipt", method: "POST", path: "/v1/records?wait=stored&timeout=3s",
		token: token, body: "b", status: 201})
	var at wire.Appended
	if err := json.Unmarshal(body, &at); err != nil || at.State != wire.StateStored || at.Receipt != nil {
		t.Errorf("%s, %v", body, err)
	}
	if took := time.Since(began); took < 3*time.Second {
		t.Errorf("the receipt was given up after %v", took)
	}
	path := fmt.Sprintf("/v1/records/%d/receipt", at.Index)
	c.do(2, request{name: "its receipt", method: "GET", path: path, token: token, status: 409,
		problem: wire.ErrNotCovered.Name})
}
