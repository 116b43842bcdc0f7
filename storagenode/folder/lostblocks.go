package folder

import (
	"encoding/binary"
	"fmt"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
)

// The file "lost" lists the blocks that a person confirmed as lost, as the last check's order named them (big endian):
//
//	magic "CSLO" ‖ version u8 = 1 ‖ 0 0 0 ‖ (from u64 ‖ to u64) … ‖ CRC-32C u32 of all before
//
// It lets the offline verifier print them. Where it is missing or damaged, the next check writes it.
var lostFormat = durable.Format{Magic: "CSLO", Version: 1, Zeros: 3}

// EncodeLost returns the content of the file "lost".
func EncodeLost(list []chain.Range) []byte {
	var body []byte
	for _, r := range list {
		body = binary.BigEndian.AppendUint64(body, r.From)
		body = binary.BigEndian.AppendUint64(body, r.To)
	}
	return lostFormat.Append(nil, body)
}

// ReadLost returns the blocks that are confirmed as lost, none if the file is missing or damaged. The error wraps
// [durable.ErrNewerFormat], or is the disk's.
func (d Dir) ReadLost() ([]chain.Range, error) {
	var list []chain.Range
	if err := lostFormat.Read(d.Lost(), func(f *durable.Fields) { list = parseLost(f) }); err != nil {
		return nil, ignoreLoss(err)
	}
	return list, nil
}

func parseLost(f *durable.Fields) (list []chain.Range) {
	for f.Len() > 0 && !f.Failed() {
		r := chain.Range{From: f.Uint64(), To: f.Uint64()}
		if r.From >= r.To || len(list) > 0 && r.From <= list[len(list)-1].To {
			f.Fail(fmt.Errorf("blocks %d to %d are out of order", r.From, r.To))
		}
		list = append(list, r)
	}
	return list
}
