package verify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/httpapi/wire"
)

// MaxReceipt bounds a receipt and a tlog-proof, in bytes.
const MaxReceipt = 1 << 20

// maxPath is the longest way from a leaf to a root: one hash for each bit of the tree's size.
const maxPath = 64

// position is what an append that waited for its block answers: the record's position, with the receipt in it.
type position struct {
	Block  *uint64     `json:"block"`
	Offset *uint32     `json:"offset"`
	Index  *uint64     `json:"index"`
	Time   *uint64     `json:"time"`
	Leaf   *chain.Hash `json:"leaf"`
}

// parseReceipt reads a receipt, alone or within the position that an append answered.
func parseReceipt(data []byte) (wire.Receipt, position, error) {
	var r wire.Receipt
	var around position
	if len(data) > MaxReceipt {
		return r, around, fmt.Errorf("it has %d bytes, the limit is %d", len(data), MaxReceipt)
	}
	inner, err := unwrap(data, &around)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("it ends before its JSON object does")
	}
	if err != nil {
		return r, around, err
	}
	if err := decodeStrict(inner, &r); err != nil {
		return r, around, err
	}
	switch {
	case r.Format != wire.FormatReceipt:
		return r, around, fmt.Errorf("its format is %q, this program knows %q", r.Format, wire.FormatReceipt)
	case len(r.Salt) != chain.SaltSize:
		return r, around, fmt.Errorf("its salt has %d bytes, not %d", len(r.Salt), chain.SaltSize)
	case len(r.LeafData) != chain.LeafSize:
		return r, around, fmt.Errorf("its leaf_data has %d bytes, not %d", len(r.LeafData), chain.LeafSize)
	case len(r.RecordPath) > maxPath, len(r.SealPath) > maxPath:
		return r, around, fmt.Errorf("its paths have %d and %d hashes, the limit is %d", len(r.RecordPath), len(r.SealPath), maxPath)
	}
	return r, around, nil
}

// unwrap finds the receipt in data, and what stands around it.
func unwrap(data []byte, around *position) ([]byte, error) {
	outer, err := members(data)
	if err != nil {
		return nil, err
	}
	inner, wrapped := outer["receipt"]
	if !wrapped {
		if _, isReceipt := outer["format"]; !isReceipt {
			return nil, errors.New("it is no receipt, and holds none: an append answers one when it waits for the block to be stored")
		}
		return data, nil
	}
	return inner, json.Unmarshal(data, around)
}

// members are the fields of one JSON object, whatever they are, none of them twice.
func members(data []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	if token, err := d.Token(); err != nil {
		return nil, err
	} else if token != json.Delim('{') {
		return nil, errors.New("it is no JSON object")
	}
	fields := map[string]json.RawMessage{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := token.(string)
		if _, twice := fields[name]; twice {
			return nil, fmt.Errorf("it has the field %q twice", name)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		fields[name] = value
	}
	_, err := d.Token()
	return fields, err
}
