package client

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// provenReceipt returns the receipt of the record of provenLog.
func provenReceipt() wire.Receipt {
	l := provenLog()
	return l.Receipt(0, 0, l.Size())
}

func TestReceipt(t *testing.T) {
	good := provenReceipt()
	c := newClient(t, -1, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/records/0/receipt" && r.URL.Path != "/v1/blocks/0/records/0/receipt" &&
			r.URL.Path != "/v1/records/1/receipt" {
			t.Errorf("path %s", r.URL.Path)
		}
		reply(w, http.StatusOK, good)
	})
	if r, err := c.Receipt(t.Context(), 0); err != nil || r.Root != good.Root {
		t.Error(err)
	}
	if _, err := c.ReceiptAt(t.Context(), 0, 0); err != nil {
		t.Error(err)
	}
	if _, err := c.Receipt(t.Context(), 1); !errors.Is(err, ErrMismatch) {
		t.Errorf("another's: %v", err)
	}
	for name, change := range map[string]func(*wire.Receipt){
		"format":      func(r *wire.Receipt) { r.Format = "chainstore-receipt/v2" },
		"origin":      func(r *wire.Receipt) { r.Origin = "other" },
		"project":     func(r *wire.Receipt) { r.ProjectID = 2 },
		"time":        func(r *wire.Receipt) { r.Time++ },
		"size":        func(r *wire.Receipt) { r.Size++ },
		"commit":      func(r *wire.Receipt) { r.Commit[0] ^= 1 },
		"salt":        func(r *wire.Receipt) { r.Salt = r.Salt[1:] },
		"leaf":        func(r *wire.Receipt) { r.Leaf[0] ^= 1 },
		"leaf data":   func(r *wire.Receipt) { r.LeafData = append([]byte(nil), r.LeafData...); r.LeafData[20] ^= 1 },
		"header":      func(r *wire.Receipt) { r.Header.Time++ },
		"record path": func(r *wire.Receipt) { r.RecordPath = []chain.Hash{{1}} },
		"seal path":   func(r *wire.Receipt) { r.SealPath = nil },
		"tree size":   func(r *wire.Receipt) { r.TreeSize++ },
		"root":        func(r *wire.Receipt) { r.Root[0] ^= 1 },
		"checkpoint":  func(r *wire.Receipt) { r.Checkpoint = "log\n3" + r.Checkpoint[5:] },
		"no note":     func(r *wire.Receipt) { r.Checkpoint = "" },
	} {
		r := provenReceipt()
		change(&r)
		if err := CheckReceipt(&r); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := newClient(t, -1, refuse(409, wire.ErrNotCovered.Name)).Receipt(t.Context(), 0); !errors.Is(err,
		wire.ErrNotCovered) {
		t.Error(err)
	}
}

// TestAppendWaitReceipt checks that the receipt of an append must match the appended record. If it does not, the append
// still succeeds with its position, and is not repeated.
func TestAppendWaitReceipt(t *testing.T) {
	receipt := provenReceipt()
	good := wire.Appended{Position: wire.Position{Time: 7, Leaf: receipt.Leaf, State: wire.StateStored},
		Receipt: &receipt}
	var answer any = good
	appends := 0
	c := newClient(t, time.Second,
		func(w http.ResponseWriter, _ *http.Request) { appends++; reply(w, http.StatusCreated, answer) })
	done, err := c.AppendWait(t.Context(), Entry{Payload: []byte("x")}, time.Second)
	if err != nil || done.Receipt == nil || done.Receipt.Root != receipt.Root || done.State != wire.StateStored {
		t.Errorf("%+v, %v", done, err)
	}
	elsewhere := good
	elsewhere.Index = 1
	for name, of := range map[string]struct {
		entry  Entry
		answer any
	}{
		"another payload": {Entry{Payload: []byte("y")}, good},
		"another key":     {Entry{Payload: []byte("x"), Key: "k"}, good},
		"another type":    {Entry{Payload: []byte("x"), Type: "t"}, good},
		"another place":   {Entry{Payload: []byte("x")}, elsewhere},
		"no receipt at all": {Entry{Payload: []byte("x")}, struct {
			wire.Position
			Receipt string `json:"receipt"`
		}{good.Position, "x"}},
		"a damaged one": {Entry{Payload: []byte("x")}, struct {
			wire.Position
			Receipt wire.Receipt `json:"receipt"`
		}{good.Position, wire.Receipt{}}},
	} {
		appends, answer = 0, of.answer
		done, err := c.AppendWait(t.Context(), of.entry, time.Second)
		if !errors.Is(err, ErrReceipt) || errors.Is(err, wire.ErrUnknownOutcome) || appends != 1 {
			t.Errorf("%s: %v after %d appends", name, err, appends)
		}
		if done.Leaf != receipt.Leaf || done.State != wire.StateStored || done.Receipt != nil {
			t.Errorf("%s: %+v", name, done)
		}
	}
}

func TestTlogProof(t *testing.T) {
	const text = "c2sp.org/tlog-proof@v1\nindex 3\n\n" +
		"example.com/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n" +
		"\n— example.com/log AAAAAAA=\n"
	c := newClient(t, -1, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") != "text/plain" || r.URL.Path != "/v1/records/3/proof" &&
			r.URL.Path != "/v1/blocks/1/records/0/proof" {
			t.Errorf("%s, %v", r.URL, r.Header)
		}
		w.Header().Set("Content-Type", wire.TypeNote)
		fmt.Fprint(w, text)
	})
	if got, err := c.TlogProof(t.Context(), 3); err != nil || string(got) != text {
		t.Errorf("%s, %v", got, err)
	}
	if got, err := c.TlogProofAt(t.Context(), 1, 0); err != nil || string(got) != text {
		t.Errorf("%s, %v", got, err)
	}
}
