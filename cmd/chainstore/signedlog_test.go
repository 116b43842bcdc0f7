package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/clitest"
	"github.com/chainstore/chainstore/internal/signedlog"
	"github.com/chainstore/chainstore/wire"
)

// signedLog serves a log.
type signedLog struct {
	*signedlog.Log
	t testing.TB
}

func newSignedLog(t testing.TB, blocks int) *signedLog { return &signedLog{clitest.NewLog(blocks), t} }

func (l *signedLog) checkpoint() string { return l.Checkpoint(l.Size()) }

func (l *signedLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/checkpoint":
		w.Header().Set("Content-Type", wire.TypeNote)
		_, _ = w.Write([]byte(l.checkpoint()))
	case "/v1/log":
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(wire.Log{Origin: "chainstore/fake", Keys: []wire.LogKey{{VerifierKey: l.VKey}}})
	default:
		data, found := l.Tile(strings.TrimPrefix(r.URL.Path, "/"))
		if !found {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = w.Write(data)
	}
}

// receipt returns the response to an append that waited for its block.
func (l *signedLog) receipt(block, offset uint32) []byte {
	receipt := l.Receipt(uint64(block), offset, l.Size())
	answer := wire.Appended{
		Position: wire.Position{
			Block: receipt.Block, Offset: offset, Index: receipt.Index, Time: receipt.Time, Leaf: receipt.Leaf,
			State: wire.StateStored,
		},
		Receipt: &receipt,
	}
	data, err := json.Marshal(answer)
	if err != nil {
		l.t.Fatal(err)
	}
	return data
}

// layOut writes the files that the scripts check into a folder: receipts of block 1, offset 2, and the keys that sign.
// It returns the variables that name the rest.
func (l *signedLog) layOut(dir string) map[string]string {
	l.t.Helper()
	server := httptest.NewServer(l)
	l.t.Cleanup(server.Close)
	record, err := l.Blocks[1].Record(2)
	if err != nil {
		l.t.Fatal(err)
	}
	h := l.Blocks[1].Header
	for name, data := range map[string][]byte{
		"good.receipt": l.receipt(1, 2), "good.proof": l.TlogProof(h.First + 2), "payload": record.Payload,
		"log.vkey":        []byte("# the log\n" + l.VKey + "\n"),
		"changed.payload": bytes.Replace(record.Payload, []byte("record"), []byte("Record"), 1),
		"changed.receipt": bytes.Replace(l.receipt(1, 2), []byte(`"project_id":1`), []byte(`"project_id":2`), 1),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			l.t.Fatal(err)
		}
	}
	leaf := record.Leaf()
	return map[string]string{
		"LOG_URL": server.URL, "LOG_KEY": l.VKey, "LEAF": fmt.Sprintf("%x", leaf.AppendTo(nil)),
		"LEAF_HASH": leaf.Hash().String(),
		"HEAD":      l.Blocks[len(l.Blocks)-1].Header.Hash().String(),
	}
}
