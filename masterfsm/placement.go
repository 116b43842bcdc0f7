package masterfsm

import (
	"encoding/binary"
	"fmt"
)

// AppendPlacements adds the binary form of what became of a submission to dst: it answers a forwarded submission, and stands
// in snapshots (big endian).
//
//	count u32 ‖ placement …
//	placement = reason u8 ‖ replay u8 ‖ time u64 ‖ runs u32 ‖ (block u64 ‖ offset u32 ‖ count u32 ‖ index u64) × runs
//	            ‖ (bytes u8 ‖ limit u64 ‖ left u64 ‖ wait u64), where the reason is RefusedRate
func AppendPlacements(dst []byte, placements []Placement) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(placements)))
	for i := range placements {
		p := &placements[i]
		replay := byte(0)
		if p.Replay {
			replay = 1
		}
		dst = append(dst, byte(p.Err), replay)
		dst = binary.BigEndian.AppendUint64(dst, p.Time)
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(p.Runs)))
		for _, r := range p.Runs {
			dst = appendRun(dst, r)
		}
		if p.Err == RefusedRate {
			dst = appendShortage(dst, p.Shortage)
		}
	}
	return dst
}

func appendRun(dst []byte, r Run) []byte {
	dst = binary.BigEndian.AppendUint64(dst, r.Block)
	dst = binary.BigEndian.AppendUint32(dst, r.Offset)
	dst = binary.BigEndian.AppendUint32(dst, r.Count)
	return binary.BigEndian.AppendUint64(dst, r.Index)
}

func appendShortage(dst []byte, s *Shortage) []byte {
	bytes := byte(0)
	if s.Bytes {
		bytes = 1
	}
	dst = binary.BigEndian.AppendUint64(append(dst, bytes), s.Limit)
	dst = binary.BigEndian.AppendUint64(dst, s.Left)
	return binary.BigEndian.AppendUint64(dst, s.Wait)
}

const (
	runSize       = 8 + 4 + 4 + 8
	placementSize = 1 + 1 + 8 + 4 // without its runs
)

// ParsePlacements reads what AppendPlacements wrote, which must fill data exactly. The error wraps [ErrBadCommand].
func ParsePlacements(data []byte) ([]Placement, error) {
	r := reader{data: data}
	n := r.u32()
	if uint64(n)*placementSize > uint64(len(r.data)) {
		return nil, fmt.Errorf("%w: %d placements in %d bytes", ErrBadCommand, n, len(data))
	}
	placements := make([]Placement, n)
	for i := range placements {
		p := &placements[i]
		p.Err, p.Replay = Reason(r.u8()), r.u8() != 0
		p.Time = r.u64()
		runs := r.u32()
		if uint64(runs)*runSize > uint64(len(r.data)) {
			return nil, fmt.Errorf("%w: %d runs in %d bytes", ErrBadCommand, runs, len(r.data))
		}
		if runs > 0 {
			p.Runs = make([]Run, runs)
		}
		for j := range p.Runs {
			p.Runs[j] = r.run()
		}
		if p.Err == RefusedRate {
			p.Shortage = &Shortage{Bytes: r.u8() != 0, Limit: r.u64(), Left: r.u64(), Wait: r.u64()}
		}
	}
	if r.failed || len(r.data) != 0 {
		return nil, fmt.Errorf("%w: placements cut short, or with %d bytes behind them", ErrBadCommand, len(r.data))
	}
	return placements, nil
}

func (r *reader) run() Run {
	return Run{Block: r.u64(), Offset: r.u32(), Count: r.u32(), Index: r.u64()}
}
