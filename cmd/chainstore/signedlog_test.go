package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transparency-dev/formats/proof"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// signedLog is a log from outside: the test chain, signed. It has fewer leaves than a tile.
type signedLog struct {
	t       testing.TB
	vkey    string
	signer  note.Signer
	blocks  []chain.Block
	entries [][]byte
	stored  []tlog.Hash
}

func newSignedLog(t testing.TB, blocks int) *signedLog {
	t.Helper()
	l := &signedLog{t: t, blocks: testChain(t, blocks)}
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	vkey, err := note.NewEd25519VerifierKey("chainstore/fake", private.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	l.vkey = vkey
	l.signer, err = note.NewSigner("PRIVATE+KEY+chainstore/fake+" + strings.Split(vkey, "+")[1] + "+" +
		base64.StdEncoding.EncodeToString(append([]byte{1}, private.Seed()...)))
	if err != nil {
		t.Fatal(err)
	}
	for i := range l.blocks {
		for n := range l.blocks[i].Header.Count {
			record, err := l.blocks[i].Record(n)
			if err != nil {
				t.Fatal(err)
			}
			l.add(record.Leaf().AppendTo(nil))
		}
		l.add(l.blocks[i].Header.AppendTo(nil))
	}
	return l
}

func (l *signedLog) add(entry []byte) {
	hashes, err := tlog.StoredHashes(int64(len(l.entries)), entry, l)
	if err != nil {
		l.t.Fatal(err)
	}
	l.stored = append(l.stored, hashes...)
	l.entries = append(l.entries, entry)
}

// ReadHashes implements [tlog.HashReader].
func (l *signedLog) ReadHashes(indexes []int64) (hashes []tlog.Hash, err error) {
	for _, i := range indexes {
		hashes = append(hashes, l.stored[i])
	}
	return hashes, nil
}

func (l *signedLog) checkpoint() string {
	root, err := tlog.TreeHash(int64(len(l.entries)), l)
	if err != nil {
		l.t.Fatal(err)
	}
	text := fmt.Sprintf("chainstore/fake\n%d\n%s\n", len(l.entries), base64.StdEncoding.EncodeToString(root[:]))
	signed, err := note.Sign(&note.Note{Text: text}, l.signer)
	if err != nil {
		l.t.Fatal(err)
	}
	return string(signed)
}

func (l *signedLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/checkpoint":
		_, _ = w.Write([]byte(l.checkpoint()))
	case "/v1/log":
		_ = json.NewEncoder(w).Encode(wire.Log{Origin: "chainstore/fake", Keys: []wire.LogKey{{VerifierKey: l.vkey}}})
	case fmt.Sprintf("/tile/entries/000.p/%d", len(l.entries)):
		var bundle []byte
		for _, e := range l.entries {
			bundle = append(binary.BigEndian.AppendUint16(bundle, uint16(len(e))), e...)
		}
		_, _ = w.Write(bundle)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (l *signedLog) path(size, index uint64) []chain.Hash {
	p, err := tlog.ProveRecord(int64(size), int64(index), l)
	if err != nil {
		l.t.Fatal(err)
	}
	path := []chain.Hash{}
	for _, h := range p {
		path = append(path, chain.Hash(h))
	}
	return path
}

// receipt is what an append answers that waited for its block.
func (l *signedLog) receipt(block, offset uint32) []byte {
	h := l.blocks[block].Header
	record, err := l.blocks[block].Record(offset)
	if err != nil {
		l.t.Fatal(err)
	}
	leaf, index, size := record.Leaf(), h.First+uint64(offset), uint64(len(l.entries))
	root, err := tlog.TreeHash(int64(size), l)
	if err != nil {
		l.t.Fatal(err)
	}
	data, err := json.Marshal(map[string]any{"block": block, "offset": offset, "index": index, "state": "stored", "receipt": map[string]any{
		"format": "chainstore-receipt/v1", "origin": "chainstore/fake", "index": index, "block": block, "offset": offset, "time": record.Time,
		"project_id": record.Project, "size": leaf.Size, "key": record.Key, "type": record.Type, "salt": record.Salt[:], "commit": leaf.Commit,
		"leaf": leaf.Hash(), "leaf_data": leaf.AppendTo(nil), "header": wire.NewBlock(h), "record_path": l.path(h.Seal(), index), "seal_index": h.Seal(),
		"seal_path": l.path(size, h.Seal()), "tree_size": size, "root": chain.Hash(root), "checkpoint": l.checkpoint(),
	}})
	if err != nil {
		l.t.Fatal(err)
	}
	return data
}

// tlogProof is a C2SP tlog-proof of a leaf.
func (l *signedLog) tlogProof(index uint64) []byte {
	p := proof.TLogProof{Index: index, Checkpoint: []byte(l.checkpoint())}
	for _, h := range l.path(uint64(len(l.entries)), index) {
		p.Hashes = append(p.Hashes, h)
	}
	return p.Marshal()
}

// layOut writes what the scripts check into a folder: receipts of block 1, offset 2, and who signs; and gives the variables that name the rest.
func (l *signedLog) layOut(dir string) map[string]string {
	l.t.Helper()
	server := httptest.NewServer(l)
	l.t.Cleanup(server.Close)
	record, err := l.blocks[1].Record(2)
	if err != nil {
		l.t.Fatal(err)
	}
	h := l.blocks[1].Header
	for name, data := range map[string][]byte{
		"good.receipt": l.receipt(1, 2), "good.proof": l.tlogProof(h.First + 2), "payload": record.Payload, "log.vkey": []byte("# the log\n" + l.vkey + "\n"),
		"changed.payload": bytes.Replace(record.Payload, []byte("record"), []byte("Record"), 1),
		"changed.receipt": bytes.Replace(l.receipt(1, 2), []byte(`"project_id":1`), []byte(`"project_id":2`), 1),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			l.t.Fatal(err)
		}
	}
	leaf := record.Leaf()
	return map[string]string{
		"LOG_URL": server.URL, "LOG_KEY": l.vkey, "LEAF": fmt.Sprintf("%x", leaf.AppendTo(nil)), "LEAF_HASH": leaf.Hash().String(),
		"HEAD": l.blocks[len(l.blocks)-1].Header.Hash().String(),
	}
}
