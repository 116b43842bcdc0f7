package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/roles"
)

// newMasterRecoverCommand replaces a lost majority.
func newMasterRecoverCommand() *cobra.Command {
	var cfg roles.RecoverConfig
	var clusterTokenFile string
	var yes, asJSON bool
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Replace a majority of masters that is lost for good",
		Long: `Replace a majority of masters that is lost for good. While a majority can come back, bring it back: nothing is lost then.

With the data folder of a master that survived, and that is stopped, that master becomes the whole group. With --from-storage and an
empty folder the group is founded anew from a storage node's chain. Either way the highest chain of the storage nodes is taken over first,
each block of it verified; the storage nodes must run, the other masters must not, and never again.

What the lost masters had acknowledged and is neither in the survivor's log nor in a block of a storage node is lost, and so are
idempotency keys that the survivor does not know. With --from-storage every record that was in no stored block yet is lost, and so are all
keys and settings; projects come back private, named recovered-ID, and without tokens: 'chainstore project token create' gives them new ones.
docs/operations.md tells more.

Afterwards start the master as before, and let others in with 'chainstore master --join'.`,
		Example: `  chainstore master recover --data /var/lib/chainstore --raft 127.0.0.1:8010 --cluster-token-file cluster.token
  chainstore master recover --data /var/lib/new --raft 127.0.0.1:8010 --cluster-token-file cluster.token --from-storage http://127.0.0.1:8082`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if cfg.Data == "" {
				return errors.New("name the folder of the master that survived, or an empty one, with --data")
			}
			if cfg.ClusterToken, err = readSecret(clusterTokenFile, "CHAINSTORE_CLUSTER_TOKEN"); err != nil {
				return err
			}
			cfg.Confirm = func(r roles.Recovery) error { return confirmRecovery(cmd, r, yes) }
			bar := newByteBar(cmd.ErrOrStderr(), "adopt")
			bar.unit = "blocks"
			cfg.Progress = func(done, total uint64) { bar.set(int64(done), int64(total)) }
			cfg.Logger = hclog.New(&hclog.LoggerOptions{Name: "recover", Level: hclog.Warn, Output: cmd.ErrOrStderr()})
			done, err := roles.RecoverMaster(cmd.Context(), cfg)
			bar.done()
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), done)
			}
			return tellRecovered(cmd.OutOrStdout(), done)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&cfg.Data, "data", "", "data `folder` of the master")
	flags.StringVar(&cfg.Raft, "raft", "127.0.0.1:8010", "`address` of its raft port from now on")
	flags.StringVar(&clusterTokenFile, "cluster-token-file", "", "`file` with the cluster token (or CHAINSTORE_CLUSTER_TOKEN)")
	flags.StringVar(&cfg.FromStorage, "from-storage", "", "`URL` of a storage node, when no master has survived")
	flags.StringSliceVar(&cfg.Without, "without", nil, "ids or `URLs` of storage nodes that are gone: blocks that they alone have are lost")
	flags.BoolVar(&yes, "yes", false, "do not ask")
	addJSON(cmd, &asJSON, "print what was done as one JSON object")
	mustComplete(cmd.MarkFlagDirname("data"))
	return cmd
}

// errNotConfirmed: the person did not say yes.
var errNotConfirmed = errors.New("not confirmed: nothing was changed")

// confirmRecovery says plainly what may be lost, and asks.
func confirmRecovery(cmd *cobra.Command, r roles.Recovery, yes bool) error {
	w := cmd.ErrOrStderr()
	var b strings.Builder
	fmt.Fprintf(&b, "WARNING: master %s becomes the only master of group %s, which goes on as epoch %d.\n", r.Member, r.Group, r.Epoch)
	if r.LastEntry > 0 {
		fmt.Fprintf(&b, "Its log ends at entry %d: it knows %s mined and holds %s in no mined block.\n",
			r.LastEntry, counted(r.Height, "block"), counted(uint64(r.Buffered), "record"))
	}
	if r.Source != "" {
		fmt.Fprintf(&b, "It takes over the chain of %s up to block %d.\n", r.Source, r.ChainHeight-1)
	}
	b.WriteString("Records that were acknowledged by others and are neither in this log nor in that chain are LOST, with their idempotency keys.\n")
	for _, lost := range r.Lost {
		fmt.Fprintf(&b, "Master %s must never run again with its folder.\n", lost)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	if yes {
		return nil
	}
	if _, err := fmt.Fprint(w, "Type yes to go on: "); err != nil {
		return err
	}
	answer, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(answer) != "yes" {
		return errNotConfirmed
	}
	return nil
}

func tellRecovered(w io.Writer, r roles.Recovery) error {
	_, err := fmt.Fprintf(w, "master %s is group %s now, epoch %d: %s adopted, %s dropped\nStart it as before, and let others in with 'chainstore master --join'.\n",
		r.Member, r.Group, r.Epoch, counted(uint64(r.Adopted), "block"), counted(uint64(r.Dropped), "record"))
	return err
}
