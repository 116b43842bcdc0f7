package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/internal/roles"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode"
)

// newMasterCommand runs one master.
func newMasterCommand() *cobra.Command {
	var common roleFlags
	var adminTokenFile string
	var keyAge time.Duration
	var checks checkFlags
	cfg := roles.MasterConfig{Settings: masterfsm.DefaultSettings(), Limits: masternode.DefaultLimits()}
	cmd := &cobra.Command{
		Use:   "master",
		Short: "Run a master",
		Long: `Run a master: a member of the raft group that keeps the status table and serves the API.

Give every master the same --peers, the HTTP URLs of all of them, at every start. The first of the list founds the
group once all are there and all are new. To add a master to a group that is there, give it --join with the URLs of some of its masters
instead: it catches up first and votes from then on. One whose disk was wiped comes back the same way, in the place of the one that
was at its address.`,
		Example: `  chainstore master --data /var/lib/chainstore --http 127.0.0.1:8000 --raft 127.0.0.1:8010 \
    --peers http://127.0.0.1:8000,http://127.0.0.1:8001,http://127.0.0.1:8002 \
    --cluster-token-file cluster.token --admin-token-file admin.token`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := common.logger("master")
			if err != nil {
				return err
			}
			cfg.Data, cfg.HTTP, cfg.Advertise, cfg.Insecure, cfg.Logger = common.data, common.http, common.advertise, common.insecure, log
			if cfg.ClusterToken, err = readSecret(common.clusterTokenFile, "CHAINSTORE_CLUSTER_TOKEN"); err != nil {
				return err
			}
			if cfg.AdminToken, err = readSecret(adminTokenFile, "CHAINSTORE_ADMIN_TOKEN"); err != nil {
				return err
			}
			if cfg.CheckInterval, cfg.CheckRate, err = checks.values(); err != nil {
				return err
			}
			cfg.Settings.KeyAge = uint64(max(keyAge, 0).Milliseconds())
			master, err := roles.OpenMaster(cfg)
			if err != nil {
				return err
			}
			return runRole(cmd, log, master)
		},
	}
	flags := cmd.Flags()
	common.add(flags, "127.0.0.1:8000")
	flags.StringVar(&adminTokenFile, "admin-token-file", "", "`file` with the admin token (or CHAINSTORE_ADMIN_TOKEN)")
	flags.StringVar(&cfg.Raft, "raft", "127.0.0.1:8010", "`address` of the raft port")
	flags.StringVar(&cfg.RaftAdvertise, "raft-advertise", "", "`address` host:port at which the other masters reach the raft port (default: that of --raft)")
	flags.StringSliceVar(&cfg.Peers, "peers", nil, "`URLs` of all masters, this one among them; none for a group of one")
	flags.StringSliceVar(&cfg.Join, "join", nil, "`URLs` of masters whose group this one is to join, in the place of --peers")
	flags.DurationVar(&cfg.DiskTimeout, "disk-timeout", 0, "stop when a write of the log or of a vote takes longer (default 2s)")
	flags.DurationVar(&cfg.Timeout, "raft-timeout", 0, "heartbeat, election and lease time-out of raft (default 300ms)")
	flags.DurationVar(&cfg.MaxAge, "max-age", 0, "cut a block when its oldest record is as old as this (default 1s)")

	flags.BoolVar(&cfg.OpenRegistration, "open-registration", false, "let anybody create a project, without a token; give it to all masters")
	flags.BoolVar(&cfg.OriginalAPI, "original-api", false, "serve the routes of the original system too (docs/compatibility.md); give it to all masters")

	addLogFlags(cmd, &cfg)
	checks.add(flags)

	s := &cfg.Settings
	flags.Uint32Var(&s.MaxRecords, "max-records", s.MaxRecords, "cut a block at this many records")
	flags.Uint32Var(&s.MaxBytes, "max-bytes", s.MaxBytes, "cut a block at this many bytes")
	flags.Uint64Var(&s.MaxPendingBytes, "max-pending-bytes", s.MaxPendingBytes, "refuse appends when this many bytes are not stored yet")
	flags.Uint64Var(&s.RetainBytes, "retain-bytes", s.RetainBytes, "stored bytes kept in memory for storage nodes that are behind")
	flags.Uint8Var(&s.Difficulty, "difficulty", s.Difficulty, "leading zero bits of a block's hash")
	flags.Uint8Var(&s.Replicas, "replicas", s.Replicas, "storage nodes that must have a block before the masters drop it")
	flags.Uint32Var(&s.MaxKeys, "max-keys", s.MaxKeys, "idempotency keys remembered")
	flags.DurationVar(&keyAge, "key-age", time.Duration(s.KeyAge)*time.Millisecond, "time for which idempotency keys are remembered")
	flags.IntVar(&cfg.Limits.RecordBytes, "max-record-bytes", cfg.Limits.RecordBytes, "largest record taken, in bytes")
	cmd.AddCommand(newMasterRemoveCommand(), newMasterTransferCommand(), newMasterRecoverCommand())
	return cmd
}

// addLogFlags gives a master's command the flags that say how it takes part in the log.
func addLogFlags(cmd *cobra.Command, cfg *roles.MasterConfig) {
	flags := cmd.Flags()
	flags.StringVar(&cfg.CheckpointKey, "checkpoint-key", "", "`file` with one private key that is to sign checkpoints, a line of what 'chainstore log backup' writes (default: the first leader makes one)")
	flags.StringVar(&cfg.Origin, "origin", "", "`name` of the log, which counts when its first key is founded (default chainstore/GROUP-ID, and the epoch behind it once the group was recovered); give it to all masters")
	flags.BoolVar(&cfg.PrivateLog, "private-log", false, "ask who follows the log for a token of the cluster; give it to all masters")
	flags.StringArrayVar(&cfg.Witnesses, "witness", nil, "`'VKEY URL'` of a witness that is to cosign checkpoints (C2SP tlog-witness); repeat it for several, and give all masters the same")
	flags.Uint8Var(&cfg.Settings.WitnessQuorum, "witness-quorum", 0, "witnesses that must have cosigned a checkpoint before it is shown")
	mustComplete(cmd.MarkFlagFilename("checkpoint-key"))
}
