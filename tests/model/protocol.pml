/* The protocol of coherent_cache as a model for SPIN: see "The model" in docs/protocol.md.

   One cached value, the pair of two rows of the database.  Process 0 has two threads (0 writes row
   0, 1 only reads) that share a store; process 1 has one (2, writes row 1).  Each works through
   requests; in a request it reads the value, and may begin a transaction, write its row, invalidate
   the value, commit or roll back, all in any order.  Beside them the Environment prunes the ledger,
   invalidates another key, ends a process and restarts the database, whenever it likes.

   A row's version is a number that never comes back, so a value tells what it was computed from.

   The ledger is that of POSTGRESQL, its STANDBY, MARIADB or SQLITE.  A mutant is a macro that takes one
   protection out.  Each step that is atomic in the code is one here, and no other is. */

/* Of each thread: how many requests it has, how often it may read anew in one, and whether it may
   begin a transaction. */
#ifndef REQUESTS_0
#define REQUESTS_0 1
#endif
#ifndef REQUESTS_1
#define REQUESTS_1 1
#endif
#ifndef REQUESTS_2
#define REQUESTS_2 1
#endif
#ifndef READS_0
#define READS_0 2
#endif
#ifndef READS_1
#define READS_1 1
#endif
#ifndef READS_2
#define READS_2 0
#endif
#ifndef BEGINS_1
#define BEGINS_1 0
#endif
/* Whether transactions keep one snapshot (REPEATABLE READ), or each statement has its own. */
#ifndef LASTING
#define LASTING 0
#endif
#ifndef OTHERS
#define OTHERS 0        /* invalidations of another key */
#endif
#ifndef PRUNES
#define PRUNES 0        /* rows that are pruned */
#endif
#ifndef DEATHS
#define DEATHS 0        /* processes killed */
#endif
#ifndef CRASHES
#define CRASHES 0       /* restarts of the database */
#endif

#define PROCESSES 2
#define THREADS 3
#define ROWS 8          /* of the ledger, at most */
#define NOBODY 9

/* The data: committed versions, those whose COMMIT has returned, those that ever were committed
   (as bits), and the last number given to one. */
byte data[2];
byte returned[2];
byte ever[2] = 1;       /* bit 0: the version that was there at the start */
byte last[2];

/* Transactions, by thread. */
bit  open[THREADS];
byte written[THREADS];  /* the version written, 0: none yet */
byte entry[THREADS];    /* its row in the ledger, plus one */

/* The ledger's rows, by generation. */
mtype = { FREE, WAITING, THERE, GONE };
mtype state[ROWS] = FREE;
bit  ours[ROWS];        /* names the cached key; else another one */
byte place[ROWS];       /* what orders rows on the database */
byte rows;              /* generations given out */
byte committed, logged; /* commits of data, committed rows that name the key */

/* A process: its store, the labels, and what its check under way has read. */
bit  has[PROCESSES];
byte kept0[PROCESSES];
byte kept1[PROCESSES];
byte label[PROCESSES];
byte dropped[PROCESSES];
byte floor[PROCESSES];
byte checking[PROCESSES];  /* the thread that holds the reader's mutex, plus one */
bit  anew[PROCESSES];      /* the reading does not join the last */
bit  news[PROCESSES];      /* it brought rows */
bit  named[PROCESSES];     /* the key is among them */

/* What happens to threads. */
bit  busy[THREADS];
bit  killed[THREADS];
bit  cut[THREADS];         /* its connection was lost */
bit  session;              /* changes when the database restarts */

hidden byte i, j;
hidden byte g1_strict, g3_own_writes, g5_clean, g4_atomic;

#if defined(POSTGRESQL) || defined(STANDBY)
#include "postgresql.pml"
#endif
#ifdef MARIADB
#include "mariadb.pml"
#endif
#ifdef SQLITE
#include "sqlite.pml"
#endif

/* ---- the database ---------------------------------------------------------------------------- */

inline judge_commits() {
    g4_atomic = (committed == logged);
    assert(g4_atomic)
}

/* In the commit event: a row of the ledger, not yet committed. */
inline insert(t) {
    ledger_place(t);
    state[rows] = WAITING;
    ours[rows] = 1;
    rows++;
    entry[t] = rows;
    printf("thread %d: row %d waits in the ledger\n", t, rows)
}

/* The server commits the transaction of thread t, who wrote row r. */
inline commit_there(t, r) {
    data[r] = written[t];
    ever[r] = ever[r] | (1 << written[t]);
    committed++;
    if
    :: entry[t] -> state[entry[t] - 1] = THERE; logged++
    :: else
    fi;
    ledger_committed(t);
    entry[t] = 0;
    printf("thread %d: COMMIT of version %d of row %d\n", t, data[r], r)
}

/* It rolls back: asked to, or since the connection was lost. */
inline abort_there(t) {
    ledger_aborted(t);
    entry[t] = 0;
    printf("thread %d: ROLLBACK\n", t)
}

/* An invalidation in a transaction of its own. */
inline alone(is_ours) {
    ledger_alone();
    state[rows] = THERE;
    ours[rows] = is_ours;
    rows++;
    logged = logged + is_ours;
    printf("row %d enters the ledger by itself (names the value: %d)\n", rows, is_ours)
}

/* ---- the process ----------------------------------------------------------------------------- */

/* Reader.check: under the mutex the news are read, then applied, then the position is set. */
inline check() {
#ifdef SHARE_THE_CHECK_UNDER_WAY
    if
    :: checking[p] != 0 -> checking[p] == 0; checked = 1
    :: else
    fi;
#endif
    if
    :: !checked ->
        ledger_read();
        d_step {
            if
            :: anew[p] ->
                label[p]++; has[p] = 0; kept0[p] = 0; kept1[p] = 0; dropped[p] = 0;
                floor[p] = label[p]
            :: !anew[p] && news[p] ->
                label[p]++;
                if
                :: named[p] -> has[p] = 0; kept0[p] = 0; kept1[p] = 0; dropped[p] = label[p]
                :: else
                fi
            :: else
            fi;
            ledger_position();
            printf("thread %d: checked (anew %d, names the value %d), process %d is at label %d\n",
                t, anew[p], named[p], p, label[p]);
            anew[p] = 0; news[p] = 0; named[p] = 0; checking[p] = 0;
            checked = 1
        }
    :: else
    fi
}

/* Where each statement has a snapshot of its own a transaction's label says nothing. */
#define LABELLED (LASTING || !STATEMENT_SNAPSHOTS)

/* Before a transaction's first statement: its label is read, then its snapshot is opened. */
inline first_statement() {
    if
    :: open[t] && !snapshot && LABELLED ->
#ifdef EARLY_CHECK
        check();
#endif
#ifndef LABEL_AFTER_THE_SNAPSHOT
        d_step { snapshot_label = label[p] };
#endif
        d_step {
            snapshot = 1;
            if
            :: LASTING -> seen0 = data[0]; seen1 = data[1]
            :: else
            fi
        }
#ifdef LABEL_AFTER_THE_SNAPSHOT
        d_step { snapshot_label = label[p] }
#endif
    :: else
    fi
}

/* What a request was handed. */
inline judge() {
    printf("thread %d: is given (%d, %d)\n", t, x0, x1);
    g1_strict = (x0 >= must0 && x1 >= must1);
    assert(g1_strict);
    g3_own_writes = (writes == NOBODY || (writes == 0 -> x0 : x1) >= need);
    assert(g3_own_writes);
    g5_clean = ((ever[0] >> x0) & 1) || (writes == 0 && open[t] && x0 == written[t]);
    g5_clean = g5_clean && (((ever[1] >> x1) & 1) || (writes == 1 && open[t] && x1 == written[t]));
    assert(g5_clean);
    x0 = 0; x1 = 0; taken = 0
}

inline keep() { v0 = x0; v1 = x1; viewed = 1 }

inline remember() { private = 1; private_written = (written[t] != 0); p0 = x0; p1 = x1 }

#ifdef SHOW_WHAT_IS_PENDING
#define HIDDEN 0
#else
#define HIDDEN (open[t] && pending)
#endif

#ifdef PUBLISH_WHILE_DIRTY
#define CLEAN true
#else
#define CLEAN (!written[t])
#endif
#ifdef PUBLISH_WHAT_WAS_DROPPED_MEANWHILE
#define NOT_DROPPED true
#else
#define NOT_DROPPED (dropped[p] <= load_label)
#endif
#ifdef PUBLISH_BELOW_THE_FLOOR
#define NOT_BELOW true
#else
#define NOT_BELOW (load_label >= floor[p])
#endif

#define PRIVATE (private && (private_written == (written[t] != 0) || !pending))

inline read() {
    if
    :: d_step { HIDDEN -> load_label = label[p] }
    :: !HIDDEN ->
        check();
        d_step {
            if
            :: has[p] -> x0 = kept0[p]; x1 = kept1[p]; keep(); judge(); taken = 1
            :: else -> load_label = label[p]        /* the label, then the data */
            fi
        }
    fi;
    if
    :: taken -> taken = 0
    :: else ->
        first_statement();
        d_step {
            if
            :: open[t] && LASTING -> x0 = seen0; x1 = seen1
            :: else -> x0 = data[0]; x1 = data[1]
            fi;
            if
            :: open[t] && written[t] && writes == 0 -> x0 = written[t]
            :: open[t] && written[t] && writes == 1 -> x1 = written[t]
            :: else
            fi
        };
        /* Here a slow retriever takes its time.  Then the value is published. */
        d_step {
#ifdef LABEL_AFTER_THE_DATA
            load_label = label[p];
#endif
#ifndef LABEL_OF_THE_SNAPSHOT_IGNORED
            if
            :: open[t] && LABELLED && snapshot_label < load_label -> load_label = snapshot_label
            :: else
            fi;
#endif
            if
            :: CLEAN && NOT_DROPPED && NOT_BELOW -> has[p] = 1; kept0[p] = x0; kept1[p] = x1
            :: else
            fi;
            printf("thread %d: has computed (%d, %d) with label %d, published: %d\n",
                t, x0, x1, load_label, has[p] && kept0[p] == x0 && kept1[p] == x1);
            load_label = 0;
            if
            :: open[t] && (written[t] || pending) -> remember()
            :: else -> keep()
            fi;
            judge()
        }
    fi
}

/* How a transaction's end is told to the request.  Its keys were pending: they are news. */
inline forget_transaction() {
    open[t] = 0; written[t] = 0; entry[t] = 0;
    pending = 0; private = 0; private_written = 0; p0 = 0; p1 = 0;
    snapshot = 0; snapshot_label = 0; seen0 = 0; seen1 = 0
}

inline forget_view() { viewed = 0; v0 = 0; v1 = 0 }

inline after_commit() {
    forget_transaction();
    forget_view();
#ifndef NO_LOOK_AFTER_OWN_COMMIT
    checked = 0
#else
    skip
#endif
}

inline after_unknown() {
    forget_transaction();
    forget_view();
#ifndef UNKNOWN_TAKEN_FOR_ROLLBACK
    checked = 0
#else
    skip
#endif
}

inline after_rollback() {
    if
    :: pending -> forget_view()
    :: else
    fi;
#ifdef KEEP_PRIVATE_AFTER_ROLLBACK
    if
    :: private -> x0 = p0; x1 = p1; keep(); x0 = 0; x1 = 0
    :: else
    fi;
#endif
    need = 0;
    forget_transaction()
}

inline end_request() {
    forget_transaction(); forget_view();
    busy[t] = 0; killed[t] = 0; cut[t] = 0;
    must0 = 0; must1 = 0; need = 0; checked = 0;
    load_label = 0; x0 = 0; x1 = 0; reads = 0; taken = 0; began = 0
}

proctype Thread(byte t; byte p; byte writes; byte requests; byte most_reads; bit begins) {
    byte must0, must1;      /* what a request that begins now has to see at least */
    byte need;              /* the version of its own row that it has to see */
    bit viewed, checked; byte v0, v1;
    bit pending, private, private_written; byte p0, p1;
    bit snapshot; byte snapshot_label, seen0, seen1;
    byte load_label, x0, x1, reads;
    bit taken, began;

    do
    :: requests == 0 -> break
    :: d_step {
        requests > 0 ->
        requests--; busy[t] = 1; must0 = returned[0]; must1 = returned[1];
        printf("thread %d: request begins, has to see (%d, %d)\n", t, must0, must1)
    } {
        do
        :: d_step { viewed -> x0 = v0; x1 = v1; judge() }
        :: d_step { !viewed && PRIVATE -> x0 = p0; x1 = p1; judge() }
        :: d_step { !viewed && !PRIVATE && reads < most_reads -> reads++ };
            read()
        :: d_step { !open[t] && !began && begins -> began = 1; open[t] = 1 }
        :: open[t] && writes != NOBODY && !written[t] ->
            first_statement();
            atomic {
                if
                :: MAY_WRITE ->
                    last[writes]++; written[t] = last[writes];
                    ledger_wrote(t);
                    printf("thread %d: writes version %d\n", t, written[t]);
                    if
                    :: pending -> need = written[t]
                    :: else
                    fi
                :: else             /* an error; the transaction goes on without the write */
                fi
            }
        :: d_step {
            open[t] && writes != NOBODY && !pending ->
            pending = 1; need = written[t];
            printf("thread %d: del\n", t);
            private = 0; private_written = 0; p0 = 0; p1 = 0;
#ifdef INVALIDATE_BEFORE_COMMIT
            alone(1); judge_commits();
#endif
            forget_view()
        }
        :: open[t] && written[t] && pending ->
#if !defined(INVALIDATE_BEFORE_COMMIT) && !defined(INVALIDATE_AFTER_COMMIT)
            d_step { insert(t) };       /* the commit event */
#endif
            if
            :: d_step {
                commit_there(t, writes);
#ifdef INVALIDATE_AFTER_COMMIT
                judge_commits()
            };
            d_step {
                alone(1);
#endif
                judge_commits();
                returned[writes] = written[t]; after_commit()
            }
            :: d_step { commit_there(t, writes); judge_commits(); after_unknown() }
            :: d_step { need = 0; abort_there(t); judge_commits(); after_unknown() }
            fi
        :: d_step { open[t] -> abort_there(t); judge_commits(); after_rollback() }
        :: atomic { !open[t] -> end_request(); break }
        od
    } unless {
        atomic { killed[t] || cut[t] ->
            if
            :: open[t] -> abort_there(t)
            :: else
            fi;
            if
            :: checking[p] == t + 1 -> checking[p] = 0; anew[p] = 0; news[p] = 0; named[p] = 0
            :: else
            fi;
            end_request()
        }
    }
    od
}

inline end_process(p) {
    printf("process %d is killed\n", p);
    has[p] = 0; kept0[p] = 0; kept1[p] = 0; label[p] = 0; dropped[p] = 0; floor[p] = 0;
    checking[p] = 0; anew[p] = 0; news[p] = 0; named[p] = 0;
    ledger_forget(p)
}

inline end_thread(t) {
    if
    :: busy[t] -> killed[t] = 1
    :: else
    fi
}

/* The database restarts: what was open there has ended, and who used it gets an error. */
inline lose(t) {
    if
    :: open[t] -> abort_there(t); cut[t] = 1
    :: else
    fi
}

proctype Environment() {
    byte others = OTHERS, prunes = PRUNES, deaths = DEATHS, crashes = CRASHES;
end:
    do
    :: atomic { others && MAY_WRITE_BESIDE -> others--; alone(0) }
    :: atomic { prunes && rows > 1 -> prunes--; ledger_prune() }
    :: atomic { deaths ->
        deaths--;
        if
        :: end_process(0); end_thread(0); end_thread(1)
        :: end_process(1); end_thread(2)
        fi
    }
    :: atomic { crashes ->
        crashes--; session = 1 - session;
        printf("the database restarts\n");
        lose(0); lose(1); lose(2);
        ledger_crash()
    }
    od
}

init {
    atomic {
        run Thread(0, 0, 0, REQUESTS_0, READS_0, 1);
        run Thread(1, 0, NOBODY, REQUESTS_1, READS_1, BEGINS_1);
        run Thread(2, 1, 1, REQUESTS_2, READS_2, 1);
        run Environment()
    }
}
