package masterapi

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// maxSubmission bounds the appends that one master forwards to another, in bytes.
const maxSubmission = 64 << 20

// nodeRoutes adds the routes that masters and workers call. They take the proof of a node, and with TLS its
// certificate too.
func (m *master) nodeRoutes() {
	all := m.Group("/", m.Only(m.secured, certs.Master, certs.Storage, certs.Miner),
		m.Requires(m.nodes, nodeauth.Masters, nodeauth.Storage, nodeauth.Miner, nodeauth.Recovery), m.fromNode)
	all.GET(wire.PathMember, m.member)
	reports := all.Group("/", m.forwardedByMember)
	reports.POST(wire.PathWorkers, m.Do(httpapi.WithJSON(m.register)))
	reports.POST(wire.PathFailedSyncs, m.Do(httpapi.WithJSON(m.failedSync)))
	nodes := m.Group("/", m.Only(m.secured, certs.Master), m.Requires(m.nodes, nodeauth.Masters), m.fromNode)
	nodes.POST(wire.PathAdopt, m.Do(httpapi.WithJSON(m.adoptGroup)))
	nodes.GET(wire.PathState, m.Do(m.stateHash))
	nodes.POST(wire.PathProfile, m.OwnProfile())
	news := nodes.Group("/", m.forwardedByMember)
	news.POST(wire.PathMasters, m.Do(httpapi.WithJSON(m.announce)))
	news.GET(wire.PathTLS, m.Do(m.committedTLS))
	leader := nodes.Group("/", m.fromMember)
	leader.POST(wire.PathSubmissions, m.Do(m.submission))
	leader.GET(wire.PathReadIndex, m.Do(fromLeader(m.node.ReadIndex)))
	leader.GET(wire.PathLeaderStatus, m.Do(fromLeader(m.node.LeaderCluster)))
	leader.GET(wire.PathLeaderIntegrity, m.Do(fromLeader(m.node.LeaderIntegrity)))
	leader.POST(wire.PathSuspects, m.Do(httpapi.WithJSON(m.suspect)))
	leader.POST(wire.PathTLS, m.Do(httpapi.WithJSON(m.probeTLS)))
}

// fromNode counts a request for the node that sends it.
func (m *master) fromNode(c *gin.Context) { m.provenNode(c.Request) }

// callerOf returns what a request says of the master that sends it, nothing if it says nothing.
func callerOf(c *gin.Context) (wire.Caller, error) {
	text := c.GetHeader(wire.HeaderCaller)
	if text == "" {
		return wire.Caller{}, nil
	}
	caller, err := wire.ParseCaller(text)
	if err != nil {
		return wire.Caller{}, fmt.Errorf("%w: header %s: %w", wire.ErrBadRequest, wire.HeaderCaller, err)
	}
	return caller, nil
}

// fromOtherGroup refuses the requests of a master of another group, or of this one before a recovery. Such a master may
// take this one for its leader. Requests of users do not name a caller.
func (m *master) fromOtherGroup(c *gin.Context) {
	caller, err := callerOf(c)
	if err == nil && caller.Group != "" {
		err = m.node.CheckGroup(caller)
	}
	if err != nil {
		m.Fail(c, err)
	}
}

// fromMember refuses a call of the leader by a master that knows a later leader, or that does not name itself.
func (m *master) fromMember(c *gin.Context) {
	caller, err := callerOf(c)
	if err == nil {
		err = m.node.CheckCaller(caller)
	}
	if err != nil {
		m.Fail(c, err)
	}
}

// forwardedByMember is fromMember for what a master forwards to the leader. A node that reports itself may not know the
// group yet: what it knows is in the body.
func (m *master) forwardedByMember(c *gin.Context) {
	if forwarded(c) {
		m.fromMember(c)
	}
}

// fromPeer reports whether another master forwarded a user's request, and proves its secret. That master
// has applied the limits of the user's address. The request comes from the address of that master, which forwards the
// requests of many users.
func (m *master) fromPeer(r *http.Request) bool {
	id, ok := certs.PeerOf(r.TLS)
	proof := httpapi.ProofOf(r)
	secured := m.secured && !m.InPlainText(r)
	return (!secured || ok && id.Role == certs.Master) && proof != nil && proof.Purpose == nodeauth.Masters
}

// take counts a request for its address, unless it has been counted by the master that forwards it.
func (m *master) take(l *httpapi.RateLimit, r *http.Request) error {
	if m.fromPeer(r) {
		return nil
	}
	return l.Take(r)
}

// forwarded reports whether another master forwarded the request.
func forwarded(c *gin.Context) bool { return c.GetHeader(wire.HeaderHops) != "" }

// adoptGroup makes this new master part of a group.
func (m *master) adoptGroup(c *gin.Context, a wire.Adoption) error {
	if err := m.adopt(a); err != nil {
		return fmt.Errorf("%w: %w", wire.ErrBadRequest, err)
	}
	c.JSON(http.StatusOK, m.node.Member())
	return nil
}

// announce admits another master, or records its new addresses.
func (m *master) announce(c *gin.Context, member wire.Member) error {
	if err := m.checkScheme(member.URL); err != nil {
		return err
	}
	m.originate(c, trail.Actor{Kind: trail.ByNode, Name: announcer(c, member.ID)})
	return httpapi.Answer(c, http.StatusOK)(m.node.Announce(c.Request.Context(), member, forwarded(c)))
}

// announcer names the master that sends an announcement. The id in the body is what it says of itself; with TLS the
// certificate has its name, or that of the master which forwards the announcement.
func announcer(c *gin.Context, id string) string {
	if peer, ok := httpapi.Peer(c); ok && peer.Name != id {
		return fmt.Sprintf("%s for %s", peer, id)
	}
	return id
}

// stateHash is the hash of the replicated state, for comparison between masters.
func (m *master) stateHash(c *gin.Context) error {
	return httpapi.Answer(c, http.StatusOK)(m.node.StateHash())
}

// submission commits appends that another master collected.
func (m *master) submission(c *gin.Context) error {
	body, err := httpapi.ReadBody(c.Request, maxSubmission)
	if err != nil {
		return err
	}
	placements, err := m.node.Submit(c.Request.Context(), body)
	if err != nil {
		return err
	}
	c.Data(http.StatusOK, wire.TypeOctets, placements)
	return nil
}

// member says who this master is, and how it was asked.
func (m *master) member(c *gin.Context) {
	own := m.node.Itself()
	own.TLS.Secured = c.Request.TLS != nil
	c.JSON(http.StatusOK, own)
}

// committedTLS answers with the step of TLS that the table of the leader has.
func (m *master) committedTLS(c *gin.Context) error {
	return httpapi.Answer(c, http.StatusOK)(m.node.CommittedTLS(c.Request.Context(), forwarded(c)))
}

// probeTLS tries TLS with other nodes for the leader.
func (m *master) probeTLS(c *gin.Context, p wire.TLSProbe) error {
	return httpapi.Answer(c, http.StatusOK)(m.node.ProbeTLS(c.Request.Context(), p))
}

// fromLeader is the handler of a question to the leader that has no arguments.
func fromLeader[T any](ask func(context.Context) (T, error)) httpapi.Handler {
	return func(c *gin.Context) error { return httpapi.Answer(c, http.StatusOK)(ask(c.Request.Context())) }
}

// suspect takes another master's report that a storage node answered wrong.
func (m *master) suspect(c *gin.Context, s wire.Suspicion) error {
	return noContent(c, m.node.Suspect(c.Request.Context(), s))
}

// register registers a worker.
func (m *master) register(c *gin.Context, r wire.Registration) error {
	if id, ok := httpapi.Peer(c); ok && id.Role != certs.Master && id.Role != r.Role {
		return fmt.Errorf("%w: %s cannot register as a %s", wire.ErrForbidden, id, r.Role)
	}
	// The purposes of workers are the names of their roles.
	if proof := httpapi.ProofOf(c.Request); proof != nil && proof.Purpose != nodeauth.Masters &&
		proof.Purpose != r.Role {
		return fmt.Errorf("%w: a node with the secret for %s cannot register as a %s", wire.ErrForbidden,
			proof.Purpose, r.Role)
	}
	if err := m.checkScheme(r.URL); err != nil {
		return err
	}
	// The id in the body is not verified yet: masternode names the actor by it where its access token is right.
	actor := trail.Actor{Kind: trail.ByNode}
	if id, ok := httpapi.Peer(c); ok && id.Role != certs.Master {
		actor.Name = id.String()
	} else if forwarded(c) && m.fromPeer(c.Request) {
		if hop := m.hopOf(c); hop.Node != "" {
			actor.Name = fmt.Sprintf("%s, as master %s says", hop.Node, hop.Source.Member)
		}
	}
	m.originate(c, actor)
	return httpapi.Answer(c, http.StatusOK)(m.node.Register(c.Request.Context(), r, forwarded(c)))
}

// checkScheme refuses a node whose URL the others could not call. Once the group moves to TLS, the table gives all URLs
// the scheme of the step.
func (m *master) checkScheme(url string) error {
	if m.secured && m.node.TLSStep() == wire.TLSByFlags && !strings.HasPrefix(url, "https://") {
		return fmt.Errorf("%w: %s does not begin with https://: this cluster has TLS", wire.ErrBadRequest, url)
	}
	return nil
}

// failedSync takes a report that a sync of a node's data folder failed.
func (m *master) failedSync(c *gin.Context, f wire.FailedSync) error {
	id, ok := httpapi.Peer(c)
	if ok && id.Role != certs.Master && (f.Over || !strings.HasPrefix(f.ID, id.Role[:1]+"-")) {
		return fmt.Errorf("%w: %s can report itself only", wire.ErrForbidden, id)
	}
	if proof := httpapi.ProofOf(c.Request); proof != nil && proof.Purpose != nodeauth.Masters &&
		(f.Over || !strings.HasPrefix(f.ID, proof.Purpose[:1]+"-")) {
		return fmt.Errorf("%w: a node with the secret for %s can report itself only", wire.ErrForbidden, proof.Purpose)
	}
	return noContent(c, m.node.ReportFailedSync(c.Request.Context(), f, forwarded(c)))
}
