package minernode

import "github.com/chainstore/chainstore/chain"

// sliceTries is how many nonces a thread tries before it checks whether the job has ended: under a millisecond.
const sliceTries = 4096

// job is the search for one nonce.
type job struct {
	block      uint64
	inner      chain.Hash
	difficulty uint8

	callers int           // guarded by Node.mu
	ended   bool          // guarded by Node.mu
	nonce   uint64        // set before done is closed
	err     error         // set before done is closed
	done    chan struct{} // closed when the job has ended
}

// search is one thread of the proof of work. It tries nonces until the hash of the block's header has enough leading
// zero bits, or the job ends. It takes every cfg.Threads-th slice of the nonces, the first at start. chain.Solve has
// the loop over the nonces of a slice.
func (n *Node) search(j *job, start uint64) {
	stride := uint64(n.cfg.Threads) * sliceTries
	for ; ; start += stride {
		select {
		case <-j.done:
			return
		default:
		}
		if nonce, found := chain.Solve(j.inner, j.difficulty, start, sliceTries); found {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.end(j, nonce, nil)
			return
		}
	}
}
