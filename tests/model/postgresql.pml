/* The ledger on PostgreSQL: rows carry their transaction's number, read up to a horizon. */

#define STATEMENT_SNAPSHOTS 1   /* each statement has its own, but at REPEATABLE READ */
#define MAY_WRITE true
#define MAY_WRITE_BESIDE true

byte number[THREADS];           /* of the transaction, 0: none assigned */
byte next_number = 1;
byte surely_used;               /* the highest that a crash does not hand out again */

/* A process's position, and what its check under way has read. */
bit  joined[PROCESSES];         /* it has one */
bit  of_session[PROCESSES];
byte horizon[PROCESSES];
byte known[PROCESSES];          /* rows at or above the horizon, as bits */
byte anchor[PROCESSES];         /* the newest row below it, plus one */
bit  new_session[PROCESSES];
byte new_horizon[PROCESSES];
byte new_known[PROCESSES];
byte new_anchor[PROCESSES];

hidden byte lowest, seen;
hidden byte torn;

inline ledger_wrote(t) { number[t] = next_number; next_number++ }

inline ledger_place(t) { place[rows] = number[t] }

inline ledger_committed(t) {
    if
    :: number[t] > surely_used -> surely_used = number[t]
    :: else
    fi;
    number[t] = 0
}

inline ledger_aborted(t) {
    if
    :: entry[t] -> state[entry[t] - 1] = GONE
    :: else
    fi;
    number[t] = 0
}

inline ledger_alone() {
    place[rows] = next_number; surely_used = next_number; next_number++
}

inline find_lowest() {
    lowest = next_number;
    for (i : 0 .. THREADS - 1) {
        if
        :: number[i] && number[i] < lowest -> lowest = number[i]
        :: else
        fi
    }
}

inline below_the_horizon(k) {
    if
    :: new_anchor[p] == 0 || place[k] >= place[new_anchor[p] - 1] -> new_anchor[p] = k + 1
    :: else
    fi
}

inline ledger_read() {
    d_step {                    /* one statement, so one snapshot */
        checking[p] == 0 -> checking[p] = t + 1;
        find_lowest();
        new_horizon[p] = lowest;
        new_session[p] = session;
        new_known[p] = 0;
        new_anchor[p] = anchor[p];
        torn = !joined[p];
#ifndef HORIZON_KEPT_OVER_A_CRASH
        torn = torn || of_session[p] != session || lowest < horizon[p];
#endif
#ifndef PRUNE_WITHOUT_ANCHOR
        torn = torn || (anchor[p] && state[anchor[p] - 1] != THERE);
#endif
        seen = 0;
        if
        :: !torn && rows > 0 ->
            for (i : 0 .. rows - 1) {
                if
#ifdef GREATER_THAN_LAST_SEEN
                :: state[i] == THERE && i >= anchor[p] ->
                    new_anchor[p] = i + 1; news[p] = 1; named[p] = named[p] || ours[i]
#else
                :: state[i] == THERE && place[i] >= horizon[p] ->
                    seen = seen | (1 << i);
                    if
                    :: !((known[p] >> i) & 1) -> news[p] = 1; named[p] = named[p] || ours[i]
                    :: else
                    fi;
                    if
                    :: place[i] < lowest -> below_the_horizon(i)
                    :: else -> new_known[p] = new_known[p] | (1 << i)
                    fi
#endif
                :: else
                fi
            }
        :: else
        fi;
#ifndef PRUNE_WITHOUT_ANCHOR
        torn = torn || (anchor[p] == 0 && seen && lowest != horizon[p]);
        torn = torn || (known[p] & seen) != known[p];
#endif
        anew[p] = torn;
        if
        :: torn -> new_known[p] = 0; new_anchor[p] = 0; news[p] = 0; named[p] = 0
        :: else
        fi
    };
    if
    :: anew[p] ->               /* it starts over: the rows come in a statement of their own */
        d_step {
            for (i : 0 .. ROWS - 1) {
                if
#ifdef GREATER_THAN_LAST_SEEN
                :: state[i] == THERE -> new_anchor[p] = i + 1
#else
                :: state[i] == THERE && place[i] < new_horizon[p] -> below_the_horizon(i)
                :: state[i] == THERE && place[i] >= new_horizon[p] ->
                    new_known[p] = new_known[p] | (1 << i)
#endif
                :: else
                fi
            }
        }
    :: else
    fi
}

inline ledger_position() {
    joined[p] = 1;
    of_session[p] = new_session[p];
    horizon[p] = new_horizon[p]; known[p] = new_known[p]; anchor[p] = new_anchor[p];
    new_session[p] = 0; new_horizon[p] = 0; new_known[p] = 0; new_anchor[p] = 0
}

inline ledger_forget(p) {
    joined[p] = 0; of_session[p] = 0; horizon[p] = 0; known[p] = 0; anchor[p] = 0;
    new_session[p] = 0; new_horizon[p] = 0; new_known[p] = 0; new_anchor[p] = 0
}

#ifdef PRUNE_IN_ANY_ORDER
#define FIRST(i) true
#else
#define FIRST(i) (j == ROWS || place[i] < place[j])
#endif

/* The row of the lowest number, below the horizon and below the newest row. */
inline ledger_prune() {
    d_step {
        find_lowest();
        seen = 0;
        for (i : 0 .. rows - 1) {
            if
            :: state[i] == THERE && place[i] > seen -> seen = place[i]
            :: else
            fi
        }
        if
        :: seen < lowest -> lowest = seen
        :: else
        fi;
        j = ROWS;
        for (i : 0 .. rows - 1) {
            if
            :: state[i] == THERE && place[i] < lowest && FIRST(i) -> j = i
            :: else
            fi
        }
        if
        :: j < ROWS -> state[j] = GONE; printf("row %d is pruned\n", j + 1)
        :: else
        fi
    }
}

/* After a crash numbers are handed out again that no record on disk has. */
inline ledger_crash() {
    do
    :: next_number > surely_used + 1 -> next_number--
    :: break
    od
}
