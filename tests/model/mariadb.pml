/* The ledger on MariaDB: each connection counts up a lane of its own. */

#define STATEMENT_SNAPSHOTS 0   /* nobody tells: a transaction counts as old as its first one */
#define MAY_WRITE true
/* Other keys are invalidated on the connection of thread 2, when it is in the pool. */
#define MAY_WRITE_BESIDE (!open[2])
#define EARLY_CHECK

#define LANES 2                 /* of the connections of thread 0 and of thread 2 */
#define LANE(t) ((t) / 2)

byte value[LANES];              /* as committed; who counts up holds the lane's lock */
byte lane[ROWS];

/* A process's position, and what its check under way has read. */
bit  joined[PROCESSES];
bit  of_session[PROCESSES];
byte known[PROCESSES * LANES];
bit  new_session[PROCESSES];
byte now[PROCESSES * LANES];
bit  moved[PROCESSES];
#ifdef GREATER_THAN_LAST_SEEN
byte newest[PROCESSES];
#endif

hidden byte found, from;

inline ledger_wrote(t) { skip }

inline ledger_place(t) { lane[rows] = LANE(t); place[rows] = value[LANE(t)] + 1 }

inline ledger_committed(t) {
    if
    :: entry[t] -> value[LANE(t)] = place[entry[t] - 1]
    :: else
    fi
}

inline ledger_aborted(t) {
    if
    :: entry[t] -> state[entry[t] - 1] = GONE
    :: else
    fi
}

inline ledger_alone() { value[1]++; lane[rows] = 1; place[rows] = value[1] }

#ifdef ROWS_BEFORE_LANES
#define READ_UP_TO ROWS
#else
#define READ_UP_TO now[p * LANES + i]
#endif

inline read_lanes() {
    for (i : 0 .. LANES - 1) {
        now[p * LANES + i] = value[i]
    }
}

inline read_rows() {
#ifdef GREATER_THAN_LAST_SEEN
    for (i : 0 .. ROWS - 1) {
        if
        :: state[i] == THERE && i >= newest[p] ->
            newest[p] = i + 1; news[p] = 1; named[p] = named[p] || ours[i]
        :: else
        fi
    }
#else
    for (i : 0 .. LANES - 1) {
        from = known[p * LANES + i];
        found = 0;
        for (j : 0 .. ROWS - 1) {
            if
            :: state[j] == THERE && lane[j] == i && place[j] >= from && place[j] <= READ_UP_TO ->
                found++;
                if
                :: place[j] > from -> news[p] = 1; named[p] = named[p] || ours[j]
                :: else
                fi
            :: else
            fi
        }
#ifndef PRUNE_WITHOUT_ANCHOR
        /* Value 0 is a lane that has no row yet. */
        if
        :: now[p * LANES + i] != from &&
            found != now[p * LANES + i] - from + (from > 0) -> anew[p] = 1
        :: else
        fi
#endif
    }
#endif
}

inline ledger_read() {
    d_step {                    /* one figure over all lanes */
        checking[p] == 0 -> checking[p] = t + 1;
        new_session[p] = session;
        moved[p] = !joined[p];
#ifndef HORIZON_KEPT_OVER_A_CRASH
        moved[p] = moved[p] || of_session[p] != session;
#endif
        anew[p] = moved[p];
        for (i : 0 .. LANES - 1) {
            moved[p] = moved[p] || value[i] != known[p * LANES + i]
        }
    };
    if
    :: moved[p] ->
#ifdef ROWS_BEFORE_LANES
        d_step { read_rows() };
        d_step { read_lanes() };
#else
        d_step { read_lanes() };
        d_step {
            if
            :: !anew[p] -> read_rows()
            :: else
            fi
        };
#endif
        d_step {
            for (i : 0 .. LANES - 1) {
                known[p * LANES + i] = now[p * LANES + i]; now[p * LANES + i] = 0
            }
        }
    :: else
    fi
}

inline ledger_position() {
    joined[p] = 1; of_session[p] = new_session[p]; new_session[p] = 0; moved[p] = 0
}

inline ledger_forget(p) {
    joined[p] = 0; of_session[p] = 0; new_session[p] = 0; moved[p] = 0;
    for (i : 0 .. LANES - 1) {
        known[p * LANES + i] = 0; now[p * LANES + i] = 0
    }
}

/* The oldest row that is not its lane's newest, nor the newest of all. */
inline ledger_prune() {
    d_step {
        found = 0;
        for (i : 0 .. rows - 1) {
            if
            :: state[i] == THERE -> found = i
            :: else
            fi
        }
        j = ROWS;
        for (i : 0 .. rows - 1) {
            if
            :: state[i] == THERE && place[i] < value[lane[i]] && i < found && j == ROWS -> j = i
            :: else
            fi
        }
        if
        :: j < ROWS -> state[j] = GONE; printf("row %d is pruned\n", j + 1)
        :: else
        fi
    }
}

inline ledger_crash() { skip }
