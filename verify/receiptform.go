package verify

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// MaxReceipt bounds a receipt and a tlog-proof, in bytes.
const MaxReceipt = 1 << 20

// maxPath is the longest path from a leaf to a root: one hash for each bit of the tree's size.
const maxPath = 64

// positionFields returns the fields of the position around a receipt, by name, as pointers to those of the receipt.
func positionFields(r *wire.Receipt) map[string]any {
	return map[string]any{"block": &r.Block, "offset": &r.Offset, "index": &r.Index, "time": &r.Time, "leaf": &r.Leaf}
}

// parseReceipt reads a receipt, alone or within the position that an append returned. around is the receipt with the
// values of that position.
func parseReceipt(data []byte) (r, around wire.Receipt, err error) {
	if len(data) > MaxReceipt {
		return r, around, fmt.Errorf("it has %d bytes, the limit is %d", len(data), MaxReceipt)
	}
	inner, outer, err := unwrap(data)
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
		return r, around, fmt.Errorf("its paths have %d and %d hashes, the limit is %d", len(r.RecordPath),
			len(r.SealPath), maxPath)
	}
	around = r
	known := positionFields(&around)
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if value, given := outer[name]; given {
			if err := json.Unmarshal(value, known[name]); err != nil {
				return r, around, fmt.Errorf("the field %q around it: %w", name, err)
			}
		}
	}
	return r, around, nil
}

// unwrap finds the receipt in data, and the fields around it. A field of a receipt next to the receipt is refused
// unless it is one of the position: it would be an unchecked statement about the record. Other fields are allowed,
// because an append may return more than the position in a later version.
func unwrap(data []byte) (inner []byte, outer map[string]json.RawMessage, err error) {
	// Names that differ only in their case are the same. Some letters have two lower-case forms.
	fold := func(name string) string { return strings.ToLower(strings.ToUpper(name)) }
	if outer, err = members(data, fold); err != nil {
		return nil, nil, err
	}
	inner, wrapped := outer["receipt"]
	if !wrapped {
		if _, isReceipt := outer["format"]; !isReceipt {
			return nil, nil, errors.New("it is no receipt, and holds none: an append answers one when it waits for " +
				"the block to be stored")
		}
		return data, nil, nil
	}
	known := positionFields(&wire.Receipt{})
	for _, name := range slices.Sorted(maps.Keys(namesOf(reflect.TypeFor[wire.Receipt]()))) {
		if _, given := outer[name]; given && known[name] == nil {
			return nil, nil, fmt.Errorf("the field %q is next to the receipt and must be in it", name)
		}
	}
	return inner, outer, nil
}
